"""``pcapctl wireshark-profile``: installs a profile for Wireshark."""

from __future__ import annotations

from pathlib import Path

import click

from pcapd.ctl.options import UsageProblem

__all__ = ["say_installed", "wireshark_profile"]


@click.command(
    "wireshark-profile",
    epilog="\b\nExamples:\n"
    "  pcapctl wireshark-profile --install\n"
    "  wireshark -C pcapd myapp.pcapng\n"
    "  tshark -C pcapd -r myapp.pcapng\n"
    "  pcapctl wireshark-profile --uninstall\n\n"
    "In Wireshark: Edit, Configuration Profiles, pcapd; or click on the profile at the right end\n"
    "of the status bar.  pcapctl extcap --install installs the profile too.",
)
@click.option("--install", is_flag=True, help="Write the profile into Wireshark's configuration.")
@click.option("--uninstall", is_flag=True, help="Remove the profile, except what you have changed.")
def wireshark_profile(install: bool, uninstall: bool) -> None:
    """Install a Wireshark profile for files in which packets were seen at several places.

    It has columns for the interface and for lost packets, keeps conversations of different
    interfaces apart (Wireshark 4.2 and later), and does not colour the second sighting
    of a packet as a retransmission.
    """
    # subprocess and tempfile take a while to import: --help does without.
    from pcapd.ctl.extcap import profile
    from pcapd.ctl.extcap.install import configuration, version

    if install == uninstall:
        hint = "see: pcapctl wireshark-profile --help"
        raise UsageProblem("specify either --install or --uninstall", hint)
    if install:
        say_installed(profile.install(configuration(), version()))
        return
    removed = profile.uninstall(configuration())
    print("\n".join(f"removed {path}" for path in removed) or "there was nothing to remove")


def say_installed(folder: Path) -> None:
    """Print how to use the profile in this directory."""
    print(f"installed {folder}; use it with: wireshark -C {folder.name}")
