"""A container's wire, seen from the cell.  Pure.

silk calls the cell's end of a container's veth pair ``s-`` and the container's
address in four decimals of three digits: silk-release,
src/code.cloudfoundry.org/silk/cni/config/config_creator.go and
lib/device_name_generator.go.  The container's end is always ``eth0``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from pcapd.errors import CaptureFailed, NoSuchInterface

__all__ = ["CONTAINER_INTERFACE", "cell_interface", "check_interfaces"]

#: What CNI calls the container's only interface besides lo.
CONTAINER_INTERFACE = "eth0"


def cell_interface(address: str) -> str:
    """Name of the cell's end, by the container's address.

    Raises:
        CaptureFailed: silk has no name for that address.
    """
    found = ipaddress.ip_address(address)
    if not isinstance(found, ipaddress.IPv4Address):
        raise CaptureFailed(
            f"the wire of a container with the address {found} cannot be found from the cell's side",
            "the agent needs access: namespace",
        )
    return "s-" + "".join(f"{byte:03d}" for byte in found.packed)


def check_interfaces(names: Sequence[str]) -> None:
    """Refuse what cannot be seen from the cell's side.

    Raises:
        NoSuchInterface: Only eth0 can.
    """
    for name in names:
        if name != CONTAINER_INTERFACE:
            raise NoSuchInterface(
                f"{name} of a container cannot be captured here: this agent looks from the cell's side, "
                f"where only {CONTAINER_INTERFACE} can be seen",
                f"use {CONTAINER_INTERFACE}; an agent configured with access: namespace sees lo, too",
            )
