"""What a BOSH director's answers mean to the api; what they say is read by `pcapd.wire.director`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pcapd.api.resolvers.base import Target
from pcapd.api.resolvers.tokens import Issuer, same_url
from pcapd.errors import ResolverUnavailable
from pcapd.limits import NAME_MAX
from pcapd.wire import Deployment, Notice, director
from pcapd.wire.director import (
    Vm,
    check_deployment,
    nothing_there,
    parse_instances,
    parse_teams,
    refusal,
)

__all__ = [
    "Director",
    "Vm",
    "check_deployment",
    "choose",
    "nothing_there",
    "parse_info",
    "parse_instances",
    "parse_teams",
    "refusal",
]


@dataclass(frozen=True)
class Director:
    """What ``GET /info`` says.

    Attributes:
        issuer: The UAA that it names, whose tokens it takes.
    """

    name: str
    uuid: str
    version: str
    issuer: Issuer


def parse_info(body: bytes) -> Director:
    """Read ``GET /info``.

    Raises:
        ResolverUnavailable: It is not a director's, or one without UAA.
    """
    info = director.parse_info(body)
    issuer = Issuer(_uaa(info.uaa), tuple(_uaa(other) for other in info.others))
    return Director(info.name, info.uuid, info.version, issuer)


def _uaa(url: str) -> str:
    url = url.rstrip("/")
    if len(url) > NAME_MAX or not same_url(url, url):
        raise ResolverUnavailable("the director names a UAA without an https URL", "tell the operator")
    return url


def choose(wanted: Deployment, vms: Sequence[Vm], port: int) -> tuple[tuple[Target, ...], tuple[Notice, ...]]:
    """The VMs that can be captured, as targets, and a notice for all that is named and cannot.

    Args:
        port: Of their agents.
    """
    picked, notices = director.pick(wanted, vms)
    return tuple(Target(vm.name, vm.address, port) for vm in picked if vm.address), notices
