"""``pcapctl flows``: delays and losses between the places of a capture."""

from __future__ import annotations

import json as json_module
import sys
from typing import Tuple

import click

from pcapd.ctl.commands.arguments import files

__all__ = ["flows"]


#: Number of flows shown without --all.
_SHOWN = 20


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl hosts web-0 web-1 --packet-ids --output both.pcapng --duration 30s\n"
    "  pcapctl flows both.pcapng\n"
    "    23 packets, 1 flow, 1 lost between two places\n"
    "    web-0:eth0 -> web-1:eth0: 1 flow, 12 packets, 1 lost\n"
    "    192.0.2.1:40000 > 192.0.2.2:80 TCP: web-0:eth0 12 -> web-1:eth0 11, "
    "delay 0.110/0.140/0.300 ms, 1 lost\n"
    "  pcapctl flows both_*.pcapng --json | jq 'select(.lost > 0)'\n"
)
@click.argument("names", nargs=-1, required=True, metavar="FILE...", shell_complete=files)
@click.option("--all", "every", is_flag=True, help="Show every flow, not only the worst.")
@click.option("--json", is_flag=True, help="Print JSON lines for scripts instead of text.")
def flows(names: Tuple[str, ...], every: bool, json: bool) -> None:
    """Show, for each flow, where its packets were seen, the delay between those places, and losses.

    FILE is a pcapng file with several interfaces, best written with --packet-ids.  Several
    files are read as one capture; - is standard input.  Each direction is a separate flow.
    The delay is shown as minimum/median/maximum and includes the difference between the
    clocks of both machines.  The totals come first, then the flows, worst losses first.
    """
    from pcapd.ctl.display.flows import as_event, as_line, read, totals, worst_first

    found = read(names)
    hops = worst_first(found.hops())
    if json:
        for hop in hops:
            print(json_module.dumps(as_event(hop)))
    else:
        shown = hops if every else hops[:_SHOWN]
        print("\n".join([*totals(found, hops), *map(as_line, shown)]))
        if len(shown) < len(hops):
            print(f"pcapctl: {len(hops) - len(shown)} more are shown with --all", file=sys.stderr)
    for count, text in (
        (found.others, "packets are not IP"),
        (found.beyond, "packets belong to flows beyond the limit; use a narrower filter"),
        (found.forgotten, "packets exceeded the matching memory and may be counted as lost"),
    ):
        if count:
            print(f"pcapctl: {count} {text}", file=sys.stderr)
