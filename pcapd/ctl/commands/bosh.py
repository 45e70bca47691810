"""``pcapctl bosh``: VMs of a BOSH deployment."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import click

from pcapd.ctl.commands.arguments import (
    EXIT_STATUS,
    CaptureCommand,
    capture_options,
    combined,
    environment_option,
)
from pcapd.ctl.commands.besides import refuse_resumable
from pcapd.ctl.commands.capturing import capture_options_of, run_capture, trust_of
from pcapd.ctl.options import Trust, UsageProblem, parse_places

__all__ = ["bosh", "vm_options"]


#: The options that name VMs.
vm_options = combined(
    click.option(
        "--deployment", "-d", envvar="BOSH_DEPLOYMENT", metavar="D", help="Deployment (or BOSH_DEPLOYMENT)."
    ),
    click.argument("places", nargs=-1, metavar="[GROUP[/ID]]..."),
    click.option("--group", "-g", "groups", multiple=True, metavar="G", help="Instance group; repeatable."),
    click.option(
        "--instance",
        "instances",
        multiple=True,
        metavar="ID",
        help="ID or index of an instance, or GROUP/ID; repeatable.  [default: all]",
    ),
    environment_option,
    click.option(
        "--yes", "-y", is_flag=True, help="Do not ask for confirmation, however many VMs there are."
    ),
)


@click.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n"
    "  pcapctl bosh -e prod -d cf --group router --duration 30s\n"
    "  pcapctl bosh -d cf router/0 --filter 'tcp port 80' --output router.pcapng\n"
    "  pcapctl bosh -d cf --group router --group diego-cell --yes --duration 1m\n"
    "  pcapctl bosh -d mysql --group mysql --output - | wireshark -k -i -\n"
    "  pcapctl bosh -d cf router --via ssh --duration 30s\n\n"
    "\b\nLog in first: bosh -e ENV log-in, or set BOSH_CLIENT and BOSH_CLIENT_SECRET.\n"
    "You need to be an admin of the deployment, as for bosh ssh.\n\n" + EXIT_STATUS,
)
@vm_options
@click.option(
    "--via",
    type=click.Choice(["api", "ssh"]),
    default="api",
    help="How to reach the VMs: through a pcap api and its agents, or, where there are none, with ssh and "
    "the tcpdump of the stemcell, as bosh ssh does.  [default: api]",
)
@capture_options
def bosh(  # noqa: PLR0917  # click passes them by name
    places: Tuple[str, ...],
    deployment: Optional[str],
    groups: Tuple[str, ...],
    instances: Tuple[str, ...],
    environment: Optional[str],
    yes: bool,
    via: str,
    **given: Any,
) -> None:
    """Capture on VMs of a BOSH deployment, with your BOSH login.

    Shows the VMs first, and asks for confirmation when there are more than five.  The director,
    its CA and the login are those of the BOSH CLI: from ~/.bosh/config (or BOSH_CONFIG),
    BOSH_ENVIRONMENT, BOSH_CA_CERT, BOSH_CLIENT and BOSH_CLIENT_SECRET.  --insecure also applies
    to the director and UAA.

    With --via ssh no api is asked.  The director makes a user for this capture on each VM, with a
    key that pcapctl makes; both are removed at the end.  BOSH_ALL_PROXY, BOSH_GW_HOST, BOSH_GW_USER
    and BOSH_GW_PRIVATE_KEY name the jump host, as for bosh ssh; your own ssh configuration applies too.
    All traffic of the VMs' ssh port is left out.
    """
    # ssl and HTTP take most of the start-up: --help does without.
    from pcapd.ctl.login.bosh import BoshArguments, prepare
    from pcapd.ctl.sinks.reportfile import reported

    if not deployment:
        raise UsageProblem("no deployment is named", "set BOSH_DEPLOYMENT, or use --deployment")
    if via == "ssh":
        refuse_resumable(given)
    groups, instances = parse_places(places, groups, instances)
    trust = trust_of(given, Trust.GIVEN)
    asked = BoshArguments(deployment, groups, instances, environment, given["api"], given["ca"], yes, trust)
    options = capture_options_of(deployment, {**given, "environment": environment}, "bosh")
    with reported(options):
        if via == "ssh":
            from pcapd.ctl.login.boshssh import capture_over_ssh

            status = capture_over_ssh(asked, options)
        else:
            access, target = prepare(asked, options)
            status = run_capture(access, options, target)
    raise SystemExit(status)
