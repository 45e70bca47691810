"""``pcapctl extcap``: installs pcapctl's launcher for Wireshark."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from pcapd.ctl.commands.wireshark_profile import say_installed
from pcapd.ctl.options import UsageProblem

__all__ = ["extcap"]


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl extcap --install\n"
    "  tshark -D                   lists pcapctl-cf, pcapctl-bosh, pcapctl-hosts, pcapctl-ssh\n"
    "  tshark -i pcapctl-cf -o extcap.pcapctl_cf.app:myapp -f 'tcp port 8080' -c 10\n"
    "  tshark -i pcapctl-hosts -o extcap.pcapctl_hosts.targets:web-0,web-1 -w web.pcapng\n"
    "  tshark -i pcapctl-ssh -o extcap.pcapctl_ssh.hosts:web-1,alice@web-2 -w web.pcapng\n"
    "  pcapctl extcap --uninstall\n\n"
    "After the installation, press F5 (Refresh Interfaces) in Wireshark.  The gear icon next to\n"
    "an interface opens its options."
)
@click.option("--install", is_flag=True, help="Put a launcher into Wireshark's extcap directory.")
@click.option("--uninstall", is_flag=True, help="Remove the launcher.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="D",
    help="The extcap directory.  [default: from tshark -G folders, else ~/.config/wireshark/extcap]",
)
def extcap(install: bool, uninstall: bool, directory: Optional[Path]) -> None:
    """Provide capture interfaces to Wireshark: Cloud Foundry app, BOSH VMs, pcapd hosts,
    hosts over ssh.

    Wireshark and tshark start pcapctl with options of their own (--extcap-interfaces,
    --capture and others).  A copy of pcapctl in their extcap directory, or a link to it, works too.
    """
    from pcapd.ctl.extcap import install as installing
    from pcapd.ctl.extcap import profile

    if install == uninstall:
        raise UsageProblem("specify either --install or --uninstall", "see: pcapctl extcap --help")
    if install:
        path = installing.install(directory)
        print(f"installed {path}; in Wireshark, press F5 to see the interfaces")
        if directory is None:
            say_installed(profile.install(installing.configuration(), installing.version()))
        return
    removed = installing.uninstall(directory)
    if directory is None:
        removed += profile.uninstall(installing.configuration())
    print("\n".join(f"removed {path}" for path in removed) or "there was nothing to remove")
