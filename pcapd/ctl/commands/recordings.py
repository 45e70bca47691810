"""``pcapctl recordings``: the list of recordings."""

from __future__ import annotations

import json
from typing import Any

import click

from pcapd.ctl.commands.arguments import login_options
from pcapd.ctl.commands.capturing import login_of

__all__ = ["recordings"]


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl recordings\n"
    "  pcapctl recordings --json | jq -r '.recordings[] | select(.state == \"recording\") | .id'\n"
)
@login_options
def recordings(**given: Any) -> None:
    """List your recordings: id, target, since when, state, size and number of clips.

    Operators of the api (operators in its configuration) see everybody's.  The api records that.
    """
    from pcapd.ctl.recordings.calls import listed
    from pcapd.ctl.recordings.text import as_table

    body = listed(login_of(given).access())
    print(json.dumps(body) if given["json"] else "\n".join(as_table(body["recordings"])))
