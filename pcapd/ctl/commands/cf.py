"""``pcapctl cf``: a Cloud Foundry app."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Optional, Tuple

import click

from pcapd.ctl.commands.arguments import EXIT_STATUS, CaptureCommand, capture_options, combined, one_of
from pcapd.ctl.commands.besides import refuse_resumable
from pcapd.ctl.commands.capturing import capture_options_of, run_capture, trust_of
from pcapd.ctl.options import CaptureOptions, Trust, UsageProblem, parse_instances
from pcapd.errors import PcapdError

if TYPE_CHECKING:
    from pcapd.ctl.cfplugin.cli import CfCli
    from pcapd.ctl.login.cf import CfArguments

__all__ = ["cf", "follow_option", "instance_options"]


#: The options that name instances of an app.
instance_options = combined(
    click.option(
        "--instance",
        "instances",
        multiple=True,
        metavar="N|N,N|N-N|all",
        shell_complete=one_of("all"),
        help="Instance; repeatable.  [default: all]",
    ),
    click.option(
        "--type",
        "process_type",
        default="web",
        metavar="TYPE",
        shell_complete=one_of("web", "worker"),
        help="Process type.  [default: web]",
    ),
)

#: How the hints begin of errors that may mean that there is no pcap api.
_IS_THERE_ONE = ("check --api", "is --api the pcap api?")
follow_option = click.option(
    "--follow", is_flag=True, help="Also capture instances that restart, move or are added."
)


@click.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n"
    "  pcapctl cf myapp --duration 30s\n"
    "  pcapctl cf myapp --instance 0,2 --filter 'tcp port 8080' --output myapp.pcapng\n"
    "  pcapctl cf myapp --device eth0 --device lo      on lo, what Envoy encrypts on eth0 is in clear\n"
    "  pcapctl cf worker --type worker --follow --duration 1h\n"
    "  pcapctl cf myapp --rotate-time 5m --rotate-files 12      the last hour\n"
    "  pcapctl cf myapp --print --filter 'port 53 or tcp port 8080'\n"
    "  pcapctl cf myapp --output - | wireshark -k -i -\n"
    "  pcapctl cf myapp --via ssh --device lo      where there is no pcap api\n\n"
    "\b\nLog in first: cf login; choose the space: cf target -s SPACE.\n"
    "You need to be a space developer of the app's space.\n\n" + EXIT_STATUS,
)
@click.argument("app", metavar="APP")
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@instance_options
@follow_option
@click.option(
    "--via",
    type=click.Choice(["api", "ssh"]),
    default="api",
    help="ssh: use cf ssh and the cf-pcap of each container instead of the pcap api.  pcapd's permissions, "
    "limits and audit log do not apply then, and dropped packets are not counted.  [default: api]",
)
@capture_options
def cf(app: str, instances: Tuple[str, ...], process_type: str, follow: bool, via: str, **given: Any) -> None:
    """Capture a Cloud Foundry app, by name in the targeted space or by GUID, with your cf login.

    The pcap api is the one of --api or PCAP_API, else the pcap link of Cloud Controller, else
    Cloud Controller's host with pcap. instead of api.  --ca adds a CA to the system's; it also
    applies to Cloud Controller and UAA, and so does --insecure.

    With --via ssh no pcap api is needed, but cf-pcap, which the operator must have enabled, and ssh
    for the app and its space.  pcapctl never chooses this way by itself.
    """
    from pcapd.ctl.sinks.reportfile import reported

    if via == "ssh":
        _check_via_ssh(follow)
        refuse_resumable(given)
    instance_numbers = parse_instances(instances)
    trust = trust_of(given, Trust.ALSO_GIVEN)
    options = capture_options_of(app, given, "cf")
    cli = click.get_current_context().obj
    with reported(options):
        # ssl and HTTP take most of the start-up: --help does without.
        from pcapd.ctl.login.cf import CfArguments

        api = given["api"] if via == "api" else None
        asked = CfArguments(app, instance_numbers, process_type, follow, api, given["ca"], trust)
        parent = cli.parent() if cli is not None else None
        capture = _over_ssh if via == "ssh" else _with_api
        status = capture(asked, options, cli, parent)
    raise SystemExit(status)


def _with_api(asked: CfArguments, options: CaptureOptions, cli: Optional[CfCli], parent: Any) -> int:
    """Capture with the pcap api, and return the exit status."""
    from pcapd.ctl.login.cf import VIA_SSH, prepare

    access, target = prepare(asked, options, cli)
    try:
        return run_capture(access, options, target, parent)
    except PcapdError as error:
        if access.guessed and error.hint.startswith(_IS_THERE_ONE):
            error.hint = f"there may be no pcap api: name another with --api, or {VIA_SSH}"
        raise


def _over_ssh(asked: CfArguments, options: CaptureOptions, cli: Optional[CfCli], parent: Any) -> int:
    """Capture with ``cf ssh``, and return the exit status."""
    from pcapd.ctl.login.cfssh import prepare_ssh
    from pcapd.ctl.ssh.cloudfoundry import cf_host
    from pcapd.ctl.ssh.farside import check_filter
    from pcapd.ctl.ssh.running import capture

    check_filter(options.filter)
    program = cli.program if cli is not None else "cf"
    if shutil.which(program) is None:
        raise PcapdError("the cf CLI is not installed, and --via ssh needs it", "install it, or check PATH")
    found = prepare_ssh(asked, options, cli)
    hosts = []
    for placed in found.instances:
        index = placed.instance.index
        ports = found.ports.get(index, ())
        hosts.append(cf_host(placed.name, found.app, index, type=asked.type, ports=ports, program=program))
    return capture(hosts, options, found.target, unavailable=found.unavailable, parent=parent)


def _check_via_ssh(follow: bool) -> None:
    """Refuse the options that need a pcap api."""
    if follow:
        hint = "without --follow, the instances that run now are captured"
        raise UsageProblem("--follow needs the pcap api, which watches the app: not with --via ssh", hint)
    context = click.get_current_context()
    if context.get_parameter_source("api") is click.core.ParameterSource.COMMANDLINE:
        raise UsageProblem("--api and --via ssh exclude each other", "over ssh, no pcap api is used")
