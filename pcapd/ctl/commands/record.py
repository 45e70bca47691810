"""``pcapctl record``: starts a recording."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional, Tuple

import click

from pcapd.ctl.commands.arguments import (
    CaptureCommand,
    access_options,
    combined,
    selection_options,
    token_file_option,
)
from pcapd.ctl.commands.besides import RING
from pcapd.ctl.commands.bosh import vm_options
from pcapd.ctl.commands.capturing import access_of, same_api, trust_of
from pcapd.ctl.commands.cf import follow_option, instance_options
from pcapd.ctl.commands.quantities import Quantity, parse_time, size_with_unit
from pcapd.ctl.display.text import escape
from pcapd.ctl.options import (
    NOWHERE,
    Access,
    CaptureOptions,
    CaptureTarget,
    Trust,
    UsageProblem,
    parse_instances,
    parse_places,
    read_token,
)
from pcapd.savefile.form import Form

__all__ = ["record"]

_RESULT = (
    "\b\nThe command returns at once.  See also:\n"
    "  pcapctl recordings                    list your recordings\n"
    "  pcapctl recording fetch ID --last 5m  what happened in the last five minutes\n"
)

_record_options = combined(
    selection_options,
    click.option(
        "--duration",
        type=Quantity("duration", parse_time),
        metavar="30s|5m|1h30m",
        help="End the recording after this time; a number without a unit is seconds.  "
        "[default: the api's limit]",
    ),
    click.option(
        "--max-bytes",
        type=Quantity("size", size_with_unit),
        metavar="100MB",
        help="End the recording when so many bytes of packets were captured.",
    ),
    *RING,
    click.option(
        "--clip-on",
        metavar="crash|'filter EXPR'",
        help="Keep for good what is around an event: the crash of an instance, or a packet that matches a "
        "second BPF filter.",
    ),
    click.option(
        "--before",
        type=Quantity("duration", parse_time),
        metavar="2m",
        help="With --clip-on: how much before the event.  [default: 2m]",
    ),
    click.option(
        "--after",
        type=Quantity("duration", parse_time),
        metavar="30s",
        help="With --clip-on: how much after the event.  [default: 30s]",
    ),
    click.option(
        "--explain",
        is_flag=True,
        help="Explain each clip at the api, and keep the findings with it: pcapctl recording show ID.",
    ),
    access_options,
    click.option("--quiet", "-q", is_flag=True, help="Print only the id."),
    click.option("--verbose", "-v", is_flag=True, help="Print more details."),
)


@click.group()
def record() -> None:
    """Record at the api: a capture that goes on when nobody is connected.

    The api must have a store (recordings in its configuration).
    """


@record.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n"
    "  pcapctl record cf myapp --keep 15m\n"
    "  pcapctl record cf myapp --filter 'tcp port 5432' --duration 12h --max-bytes 5GB\n"
    "  pcapctl record cf myapp --follow --duration 7d --keep 1h\n"
    "  pcapctl record cf myapp --keep 15m --clip-on crash --before 5m\n\n" + _RESULT,
)
@click.argument("app", metavar="APP")
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@instance_options
@follow_option
@_record_options
def cf(app: str, instances: Tuple[str, ...], process_type: str, follow: bool, **given: Any) -> None:
    """Record a Cloud Foundry app, by name in the targeted space or by GUID, with your cf login.

    --follow needs an api that has a client of its own (cloud_foundry.client in its configuration).
    """
    from pcapd.ctl.login.cf import CfArguments, prepare

    trust = trust_of(given, Trust.ALSO_GIVEN)
    numbers = parse_instances(instances)
    asked = CfArguments(app, numbers, process_type, follow, given["api"], given["ca"], trust)
    order = _order(given)
    access, target = prepare(asked, _options_of(given))
    _start(access, target, order, given, "cf")


@record.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n"
    "  pcapctl record bosh -d cf --group router --keep 15m --keep-bytes 500MB\n"
    "  pcapctl record bosh -d mysql mysql/0 --headers-only --duration 1h\n\n" + _RESULT,
)
@vm_options
@_record_options
def bosh(  # noqa: PLR0917  # click passes them by name
    places: Tuple[str, ...],
    deployment: Optional[str],
    groups: Tuple[str, ...],
    instances: Tuple[str, ...],
    environment: Optional[str],
    yes: bool,
    **given: Any,
) -> None:
    """Record VMs of a BOSH deployment, with your BOSH login."""
    from pcapd.ctl.login.bosh import BoshArguments, prepare

    if not deployment:
        raise UsageProblem("no deployment is named", "set BOSH_DEPLOYMENT, or use --deployment")
    groups, instances = parse_places(places, groups, instances)
    trust = trust_of(given, Trust.GIVEN)
    asked = BoshArguments(deployment, groups, instances, environment, given["api"], given["ca"], yes, trust)
    order = _order(given)
    access, target = prepare(asked, _options_of(given))
    _start(access, target, order, {**given, "environment": environment}, "bosh")


@record.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n  pcapctl record hosts web-0 web-1 --keep 1h --keep-bytes 2GB\n\n" + _RESULT,
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_record_options
@token_file_option
def hosts(names: Tuple[str, ...], **given: Any) -> None:
    """Record targets that are named in the api's configuration."""
    order = _order(given)
    access = access_of(given, read_token(given["token_file"]))
    _start(access, CaptureTarget(names), order, given, "token")


def _options_of(given: Any) -> CaptureOptions:
    return CaptureOptions(
        output=NOWHERE,
        form=Form.PCAPNG,
        filter=given["filter"],
        interfaces=given["devices"],
        snaplen=given["snaplen"],
        headers_only=given["headers_only"],
        reason=given["reason"],
        duration=given["duration"],
        quiet=given["quiet"],
        verbose=given["verbose"],
        json=given["json"],
    )


def _order(given: Any) -> Dict[str, Any]:
    from pcapd.ctl.recordings.ordering import ring_and_clips

    return ring_and_clips(
        keep=given["keep"],
        keep_bytes=given["keep_bytes"],
        clip_on=given["clip_on"],
        before=given["before"],
        after=given["after"],
        explain=given["explain"],
    )


def _start(access: Access, target: CaptureTarget, order: Dict[str, Any], given: Any, way: str) -> None:
    from pcapd.ctl.recordings.calls import start
    from pcapd.ctl.recordings.ordering import request_values

    request = request_values(_options_of(given).request(target), given["max_bytes"])
    recording = start(access, {**request, **order})
    id = escape(str(recording["id"]))
    if given["json"]:
        print(json.dumps(recording))
    elif given["quiet"]:
        print(id)
    else:
        how = same_api(given, way)
        print(f"recording {id} has started ({escape(target.describe())}), and goes on without you")
        print(f"  pcapctl recording show {id[:8]}{how}")
        print(f"  pcapctl recording fetch {id[:8]} --last 5m{how}")
        print(f"  pcapctl recording stop {id[:8]}{how}")
