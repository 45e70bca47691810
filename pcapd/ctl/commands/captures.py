"""``pcapctl captures``: the captures that run at the api."""

from __future__ import annotations

import json
from typing import Any, Optional

import click

from pcapd.ctl.commands.arguments import login_options
from pcapd.ctl.commands.capturing import login_of

__all__ = ["captures"]


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl captures\n"
    "  pcapctl captures --token-file token\n"
    "  pcapctl captures --login bosh -e prod\n"
    "  pcapctl captures --stop 5f0c2b7e-91aa-4c1e-8d3b-2f1009be7a11",
)
@click.option("--stop", "stopped", metavar="ID", help="End this capture in good order.")
@login_options
def captures(stopped: Optional[str], **given: Any) -> None:
    """List your running captures, or end one.

    Operators of the api (operators in its configuration) see and end everybody's.  The api
    records what they do.
    """
    from pcapd.ctl.stream.running import as_text, running, stop

    access = login_of(given).access()
    if stopped is not None:
        stop(access, stopped)
        print(json.dumps({"stopped": stopped}) if given["json"] else f"{stopped} ends")
        return
    body = running(access)
    print(json.dumps(body) if given["json"] else "\n".join(as_text(body)))
