"""The cell's end of a container's veth pair.  Pure.

silk, the network plugin of Cloud Foundry, names this end ``s-`` followed by the container's
address, written as four decimal numbers of three digits each: silk-release,
src/code.cloudfoundry.org/silk/cni/config/config_creator.go and
lib/device_name_generator.go.  The container's end is always ``eth0``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from pcapd.errors import CaptureFailed, NoSuchInterface

__all__ = ["CONTAINER_INTERFACE", "cell_interface", "check_interfaces"]

#: Name of the container's only interface besides lo, as set by CNI.
CONTAINER_INTERFACE = "eth0"


def cell_interface(address: str) -> str:
    """The name of the cell's end of the veth pair of the container with this address.

    Raises:
        CaptureFailed: silk has no interface name for this kind of address.
    """
    found = ipaddress.ip_address(address)
    if not isinstance(found, ipaddress.IPv4Address):
        raise CaptureFailed(
            f"the interface of a container with the address {found} cannot be found from the cell's side",
            "the agent needs access: namespace",
        )
    return "s-" + "".join(f"{byte:03d}" for byte in found.packed)


def check_interfaces(names: Sequence[str]) -> None:
    """Refuse interfaces that cannot be captured from the cell's side.

    Raises:
        NoSuchInterface: An interface is not eth0.
    """
    for name in names:
        if name != CONTAINER_INTERFACE:
            raise NoSuchInterface(
                f"{name} of a container cannot be captured here: this agent captures from the cell's side, "
                f"where only {CONTAINER_INTERFACE} is visible",
                f"use {CONTAINER_INTERFACE}; an agent configured with access: namespace can capture lo too",
            )
