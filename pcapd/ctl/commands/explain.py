"""``pcapctl explain``: what went wrong in a capture."""

from __future__ import annotations

import json as json_module
from typing import Optional, Tuple

import click

from pcapd.ctl.commands.arguments import contents_option, files

__all__ = ["explain"]


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl hosts web-0 web-1 --output both.pcapng --duration 30s\n"
    "  pcapctl explain both.pcapng\n"
    "  pcapctl explain client.pcap server.pcap          tcpdump's files from both ends\n"
    "  pcapctl explain both.pcapng --html both.html\n"
    "  pcapctl explain both.pcapng --json | jq '.findings[] | .kind, .summary'\n"
)
@click.argument("names", nargs=-1, required=True, metavar="FILE...", shell_complete=files)
@click.option("--json", is_flag=True, help="Print one JSON object for scripts instead of text.")
@click.option("--html", "page", metavar="FILE", help="Write a self-contained HTML page with diagrams.")
@click.option("--all", "everything", is_flag=True, help="Show all findings, not only a screenful.")
@contents_option
def explain(
    names: Tuple[str, ...], json: bool, page: Optional[str], everything: bool, show_contents: bool
) -> None:
    """Explain what went wrong in a capture: what was refused, lost, closed or delayed, and where.

    FILE is a pcapng or pcap file from any program; several files are several places.
    Packets that were seen at several places are recognised, the clocks of these places
    are compared, and packets that the capture itself lost are not blamed on the network.
    docs/findings.rst describes each kind of finding.
    """
    from pcapd.analysis.report import as_dict
    from pcapd.ctl.display.explain import as_lines, write_page
    from pcapd.ctl.display.explain import explain as read

    if page is None:
        found = read(names, contents=show_contents)
    else:
        found = write_page(names, page, contents=show_contents)
    print(json_module.dumps(as_dict(found)) if json else "\n".join(as_lines(found, everything=everything)))
