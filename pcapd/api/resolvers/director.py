"""Make targets from a director's answers (`pcapd.clouds.director`).  No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from pcapd.api.resolvers.base import Target
from pcapd.clouds.director import Vm, pick
from pcapd.wire import Deployment, Notice

__all__ = ["choose"]


def choose(wanted: Deployment, vms: Sequence[Vm], port: int) -> tuple[tuple[Target, ...], tuple[Notice, ...]]:
    """The VMs that can be captured, as targets, and notices for requested ones that cannot.

    Args:
        port: TCP port of the agents.
    """
    picked, notices = pick(wanted, vms)
    return tuple(Target(vm.name, vm.address, port) for vm in picked if vm.address), notices
