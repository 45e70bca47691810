"""``pcapctl cf``: a Cloud Foundry app."""

from __future__ import annotations

from typing import Any, Tuple

import click

from pcapd.ctl.commands.arguments import EXIT_STATUS, CaptureCommand, capture_options, combined, one_of
from pcapd.ctl.commands.capturing import capture_options_of, run_capture, trust_of
from pcapd.ctl.options import Trust, parse_instances

__all__ = ["cf", "instance_options"]


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


@click.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n"
    "  pcapctl cf myapp --duration 30s\n"
    "  pcapctl cf myapp --instance 0,2 --filter 'tcp port 8080' --output myapp.pcapng\n"
    "  pcapctl cf myapp --device eth0 --device lo      on lo, what Envoy encrypts on eth0 is in clear\n"
    "  pcapctl cf worker --type worker --follow --duration 1h\n"
    "  pcapctl cf myapp --rotate-time 5m --rotate-files 12      the last hour\n"
    "  pcapctl cf myapp --print --filter 'port 53 or tcp port 8080'\n"
    "  pcapctl cf myapp --output - | wireshark -k -i -\n\n"
    "\b\nLog in first: cf login; choose the space: cf target -s SPACE.\n"
    "You need to be a space developer of the app's space.\n\n" + EXIT_STATUS,
)
@click.argument("app", metavar="APP")
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@instance_options
@click.option("--follow", is_flag=True, help="Also capture instances that restart, move or are added.")
@capture_options
def cf(app: str, instances: Tuple[str, ...], process_type: str, follow: bool, **given: Any) -> None:
    """Capture a Cloud Foundry app, by name in the targeted space or by GUID, with your cf login.

    The pcap api is the one of --api or PCAP_API, else the pcap link of Cloud Controller, else
    Cloud Controller's host with pcap. instead of api.  --ca adds a CA to the system's; it also
    applies to Cloud Controller and UAA, and so does --insecure.
    """
    # ssl and HTTP take most of the start-up: --help does without.
    from pcapd.ctl.login.cf import CfArguments, prepare
    from pcapd.ctl.sinks.reportfile import reported

    instance_numbers = parse_instances(instances)
    trust = trust_of(given, Trust.ALSO_GIVEN)
    asked = CfArguments(app, instance_numbers, process_type, follow, given["api"], given["ca"], trust)
    options = capture_options_of(app, given)
    cli = click.get_current_context().obj
    with reported(options):
        parent = cli.parent() if cli is not None else None
        access, target = prepare(asked, options, cli)
        status = run_capture(access, options, target, parent)
    raise SystemExit(status)
