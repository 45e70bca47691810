"""``pcapctl ssh``: hosts that ssh reaches, without agents and api."""

from __future__ import annotations

from typing import Any, Tuple

import click

from pcapd.ctl.commands.arguments import EXIT_STATUS, CaptureCommand, direct_capture_options, ssh_hosts
from pcapd.ctl.commands.capturing import capture_options_of
from pcapd.ctl.options import CaptureTarget

__all__ = ["ssh"]


@click.command(
    cls=CaptureCommand,
    epilog="\b\nExamples:\n"
    "  pcapctl ssh web-1 web-2 --output both.pcapng\n"
    "  pcapctl ssh alice@web-1 --device eth0 --device lo --filter 'tcp port 80' --duration 30s\n"
    "  pcapctl ssh web-1 web-2 --align --explain\n"
    "  pcapctl ssh web-1 --ssh-option -J --ssh-option jump.example.com\n"
    "  pcapctl ssh web-1 --output - | wireshark -k -i -\n\n"
    "\b\nEach host needs tcpdump or dumpcap, and the permission to capture: as root, with\n"
    "file capabilities, or with sudo without a password.\n\n" + EXIT_STATUS,
)
@click.argument("hosts", nargs=-1, required=True, metavar="[USER@]HOST...", shell_complete=ssh_hosts)
@click.option(
    "--ssh",
    "program",
    default="ssh",
    metavar="COMMAND",
    help="The ssh program, with its own arguments.  [default: ssh]",
)
@click.option(
    "--ssh-option",
    "ssh_options",
    multiple=True,
    metavar="WORD",
    help="An argument for ssh, before the host, as it is; repeatable: --ssh-option -p --ssh-option 2222.",
)
@click.option(
    "--include-ssh",
    is_flag=True,
    help="Capture also the port of the ssh server.  Without a filter that excludes this capture's own "
    "connection, each packet causes further packets.",
)
@direct_capture_options
def ssh(
    hosts: Tuple[str, ...], program: str, ssh_options: Tuple[str, ...], include_ssh: bool, **given: Any
) -> None:
    """Capture on hosts that ssh reaches, with the tcpdump or dumpcap that is installed there.

    Your own ssh set-up is used: ~/.ssh/config, keys, agent, jump hosts and known_hosts.  At a
    terminal, ssh may ask for passwords; otherwise it asks nothing.  An interface is named HOST:DEVICE.
    All traffic of the ssh server's port is left out.
    """
    from pcapd.ctl.sinks.reportfile import reported
    from pcapd.ctl.ssh.farside import check_filter
    from pcapd.ctl.ssh.hosts import SshOptions, openssh, parse_command
    from pcapd.ctl.ssh.running import capture

    names = tuple(dict.fromkeys(hosts))
    options = capture_options_of(names[0], given)
    with reported(options):
        check_filter(options.filter)
        how = SshOptions(parse_command(program), ssh_options)
        reached = [openssh(name, how) for name in names]
        status = capture(reached, options, CaptureTarget(names), include_ssh=include_ssh)
    raise SystemExit(status)
