"""``pcapctl extcap``: puts a launcher where Wireshark looks."""

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
    "  tshark -D                                        lists pcapctl-cf, pcapctl-bosh, pcapctl-hosts\n"
    "  tshark -i pcapctl-cf -o extcap.pcapctl_cf.app:myapp -f 'tcp port 8080' -c 10\n"
    "  tshark -i pcapctl-hosts -o extcap.pcapctl_hosts.targets:web-0,web-1 -w web.pcapng\n"
    "  pcapctl extcap --uninstall\n\n"
    "In Wireshark, press F5 (Refresh Interfaces) after it was installed; the wheel beside\n"
    "an interface opens its options."
)
@click.option("--install", is_flag=True, help="Put a launcher where Wireshark looks.")
@click.option("--uninstall", is_flag=True, help="Remove it.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="D",
    help="Where.  [default: what tshark -G folders tells, else ~/.config/wireshark/extcap]",
)
def extcap(install: bool, uninstall: bool, directory: Optional[Path]) -> None:
    """Be capture interfaces of Wireshark: Cloud Foundry app, BOSH VMs, pcapd hosts.

    Wireshark and tshark start pcapctl with options of their own (--extcap-interfaces,
    --capture and others), also when it lies in their extcap directory as a copy or a link.
    """
    from pcapd.ctl.extcap import install as installing
    from pcapd.ctl.extcap import profile

    if install == uninstall:
        raise UsageProblem("say what to do: --install or --uninstall", "see: pcapctl extcap --help")
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
