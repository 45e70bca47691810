"""``pcapctl status``: what the api can reach."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, List, Optional, Tuple

import click

from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.commands.arguments import access_options, token_file_option
from pcapd.ctl.commands.capturing import access_of, trust_of
from pcapd.ctl.display.text import escape
from pcapd.ctl.options import FAILED, Access, Trust, UsageProblem, read_token

__all__ = ["status"]


@click.command()
@click.option(
    "--agents", "with_agents", is_flag=True, help="Also the agents of your targets; needs your token."
)
@token_file_option
@access_options
def status(with_agents: bool, token_file: Optional[Path], **given: Any) -> None:
    """Show what the api can reach.

    Without --api and PCAP_API, this is the api that pcapctl cf uses with your cf login.
    """
    from pcapd.ctl.stream.health import agents, agents_as_text, as_text, ask

    token = read_token(token_file) if with_agents else None
    access, heading = (access_of(given, None), []) if given["api"] else _found(given)
    body = ask(access)
    healthy, lines = as_text(body)
    lines = heading + lines
    if token is not None:
        body["agents"] = agents(dataclasses.replace(access, token=token))
        lines += agents_as_text(body["agents"])
    if given["json"]:
        print(json.dumps(body))
    else:
        print("\n".join(lines))
    raise SystemExit(0 if healthy else FAILED)


def _found(given: Any) -> Tuple[Access, List[str]]:
    """The api of the cf login, and a line that describes how it was found."""
    from pcapd.ctl.login.cf import find_api

    trust = trust_of(given, Trust.ALSO_GIVEN)
    try:
        api, origin = find_api(given["ca"], trust)
    except LoginProblem as error:
        raise UsageProblem(
            "no api is given", "set PCAP_API, name its URL with --api, or log in with: cf login"
        ) from error
    return Access(api, None, given["ca"], trust), [f"{escape(api)}, {escape(origin)}"]
