"""``pcapctl bosh``: finds the VMs of a deployment with the BOSH CLI's login."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple

from pcapd.clouds.director import Vm, check_deployment, nothing_there, pick
from pcapd.ctl.display.messages import Messages
from pcapd.ctl.display.text import escape
from pcapd.ctl.login.boshconfig import config_path, settings
from pcapd.ctl.login.boshdirector import BoshSession, DirectorClient
from pcapd.ctl.login.boshlogin import read_ca, read_environment
from pcapd.ctl.login.fetch import Client
from pcapd.ctl.options import STDOUT, Access, CaptureOptions, CaptureTarget, Trust, UsageProblem
from pcapd.ctl.sinks.files import check_files
from pcapd.ctl.stream.connection import UNKNOWN_CA, address_of
from pcapd.errors import BadRequest, PcapdError
from pcapd.wire import Deployment, Notice

__all__ = ["BoshArguments", "Found", "check", "find", "prepare", "table"]

#: Largest number of VMs that are captured without confirmation.
UNASKED_MAX = 5

_HINTS = {
    "check --api": "check BOSH_ENVIRONMENT or --environment; bosh environments lists yours",
    UNKNOWN_CA: UNKNOWN_CA.replace("--ca", "BOSH_CA_CERT"),
}


class NotConfirmed(PcapdError):
    """The user did not confirm the capture."""


@dataclass(frozen=True)
class BoshArguments:
    """The arguments of ``pcapctl bosh``.

    Attributes:
        environment: Alias or URL of the director; None for BOSH_ENVIRONMENT.
        api: The pcap api's URL.
        ca: File of the CA of the api's certificate; None for the system's CAs.
        yes: Whether to capture without confirmation.
        trust: The CAs that are accepted.
    """

    deployment: str
    groups: Tuple[str, ...]
    instances: Tuple[str, ...]
    environment: Optional[str]
    api: Optional[str]
    ca: Optional[Path]
    yes: bool = False
    trust: Trust = Trust.GIVEN


class Found(NamedTuple):
    """What the director knows, and how to ask it further.

    Attributes:
        vms: Those that can be captured.
        notices: What was asked for and is missing.
        session: The user's login.
        director: The director.
        messages: Shows warnings.
    """

    vms: Tuple[Vm, ...]
    notices: Tuple[Notice, ...]
    session: BoshSession
    director: DirectorClient
    messages: Messages


def prepare(asked: BoshArguments, options: CaptureOptions) -> Tuple[Access, CaptureTarget]:
    """Find the VMs, show them, and get a token that stays valid for a while.

    Raises:
        PcapdError: The VMs or a token cannot be had; the hint suggests a remedy.
    """
    # Report mistakes on the command line before the first request.
    target = check(asked, options)
    if not asked.api:
        hint = "set PCAP_API, or name its URL with --api; without an api there is --via ssh"
        raise UsageProblem("no api is given", hint)
    address_of(asked.api)
    found = find(asked, options)
    # The token may have expired while pcapctl waited for the user's confirmation.
    token = found.session.token()
    if found.session.refreshed:
        found.messages.detail("your BOSH login was refreshed")
    return Access(asked.api, token, asked.ca, asked.trust, bosh=True), target


def check(asked: BoshArguments, options: CaptureOptions) -> CaptureTarget:
    """Check the arguments and options without any request.

    Raises:
        PcapdError: A mistake on the command line, or an output cannot be written.
    """
    target = CaptureTarget(deployment=_deployment(asked))
    options.request(target)
    check_files(options)
    return target


def find(asked: BoshArguments, options: CaptureOptions) -> Found:
    """Find the VMs, and show them; above a number, ask for confirmation.

    Raises:
        PcapdError: There is no VM, the login is not accepted, or the user did not confirm.
    """
    deployment = _deployment(asked)
    given = settings(os.environ, asked.environment)
    messages = Messages.of(options)
    path = config_path(os.environ)
    environment = read_environment(path, given)
    client = Client(None, asked.trust, pem=read_ca(environment.ca), hints=_HINTS, bosh=True)
    session = BoshSession(path, given, environment, client, messages.warn)
    director = DirectorClient(environment.url, session, client)
    vms, notices = pick(deployment, director.instances(deployment))
    if not vms:
        raise nothing_there(deployment, notices)
    ask = len(vms) > UNASKED_MAX and not asked.yes
    _show(options, deployment.name, vms, needed=ask)
    if ask:
        _confirm(len(vms), script=options.json)
    return Found(vms, notices, session, director, messages)


def _deployment(asked: BoshArguments) -> Deployment:
    try:
        deployment = Deployment(asked.deployment, asked.groups, asked.instances)
        check_deployment(deployment)
    except ValueError as error:
        raise UsageProblem(str(error)) from error
    except BadRequest as error:
        raise UsageProblem(error.message, error.hint) from error
    return deployment


def _confirm(count: int, *, script: bool) -> None:
    if script or not sys.stdin.isatty() or not sys.stderr.isatty():
        raise UsageProblem(
            f"{count} VMs are more than {UNASKED_MAX}, and there is no terminal to ask for confirmation",
            "to capture them, use --yes",
        )
    print(f"Capture on these {count} VMs? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("not confirmed; nothing was captured")


def table(vms: Sequence[Vm]) -> str:
    """A table of the VMs, as text."""
    rows = [("instance", "index", "zone", "address")]
    rows += [(escape(vm.name), str(vm.index), escape(vm.zone) or "-", vm.address or "-") for vm in vms]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _show(options: CaptureOptions, deployment: str, vms: Sequence[Vm], *, needed: bool) -> None:
    """Print the VMs to be captured; with --quiet, only if the user must confirm them."""
    if options.json:
        targets = [
            {"instance": vm.name, "index": vm.index, "zone": vm.zone, "address": vm.address} for vm in vms
        ]
        event = {"event": "targets", "deployment": deployment, "targets": targets}
        print(json.dumps(event), file=sys.stderr if options.output == STDOUT else sys.stdout, flush=True)
    elif needed or not options.quiet:
        print(table(vms), file=sys.stderr, flush=True)
