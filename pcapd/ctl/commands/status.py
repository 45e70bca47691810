"""``pcapctl status``: what the api can reach."""

from __future__ import annotations

import json
from typing import Any

import click

from pcapd.ctl.commands.arguments import access_options
from pcapd.ctl.commands.capturing import access_of
from pcapd.ctl.options import FAILED

__all__ = ["status"]


@click.command()
@access_options
def status(**given: Any) -> None:
    """Tell what the api can reach."""
    from pcapd.ctl.stream.health import as_text, ask

    body = ask(access_of(given, None))
    healthy, lines = as_text(body)
    if given["json"]:
        print(json.dumps(body))
    else:
        print("\n".join(lines))
    raise SystemExit(0 if healthy else FAILED)
