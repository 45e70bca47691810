"""``pcapctl hosts``: targets of the api's configuration."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any, Optional, Tuple

import click

from pcapd.ctl.commands.arguments import EXIT_STATUS, CaptureCommand, capture_options, token_file_option
from pcapd.ctl.commands.capturing import access_of, capture_options_of, run_capture
from pcapd.ctl.display.text import escape, natural
from pcapd.ctl.options import Access, CaptureTarget, read_token

__all__ = ["hosts"]


@click.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n"
    "  pcapctl hosts web-0 web-1 --duration 30s --output web.pcapng\n"
    "  pcapctl hosts web-0 --device eth0 --device lo --filter 'tcp port 80'\n"
    "  pcapctl hosts web-0 web-1 --split-by instance --rotate-size 100MB\n"
    "  pcapctl hosts web-0 --output - | wireshark -k -i -\n"
    "  pcapctl hosts web-0 --serve 127.0.0.1:57012              and: tshark -i TCP@127.0.0.1:57012\n\n"
    + EXIT_STATUS,
)
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--list", "listed", is_flag=True, help="List the targets that you may capture, and exit.")
@capture_options
@token_file_option
def hosts(names: Tuple[str, ...], listed: bool, token_file: Optional[Path], **given: Any) -> None:
    """Capture targets that are named in the api's configuration."""
    from pcapd.ctl.sinks.reportfile import reported

    if listed:
        _list(access_of(given, read_token(token_file)), json=given["json"])
        return
    if not names:
        raise click.UsageError(
            "Missing argument 'NAME...'; --list shows the names", click.get_current_context()
        )
    options = capture_options_of(names[0], {**given, "token_file": token_file}, "token")
    with reported(options):
        access = access_of(given, read_token(token_file))
        status = run_capture(access, options, CaptureTarget(names))
    raise SystemExit(status)


def _list(access: Access, *, json: bool) -> None:
    from pcapd.ctl.stream.health import targets

    names = sorted(targets(access), key=natural)
    if json:
        print(json_module.dumps({"targets": names}))
    else:
        for name in names:
            print(escape(name))
