"""Describes pcapd's own connections by addresses and ports, so that no capture contains them.

The descriptions also match connections that do not exist yet.  They are the same for all
captures of a machine:

* connections to this agent's port, from any api;
* connections of the requesting api: to its own port, from clients and from the router
  in front of it, and its connections to other agents.

An address and its port must both match, so traffic of other machines on the same port is
captured.  Each network namespace has its own loopback addresses, so these match only in the
namespace of pcapd itself.  This module does no input or output.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pcapd.capture.exclusion import Network, OwnTraffic
from pcapd.limits import OWN_ADDRESSES_MAX
from pcapd.wire import ApiTraffic

__all__ = ["Ends", "own_traffic"]

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
_EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


class Ends(NamedTuple):
    """Both ends of the connection on which a START was received.

    Attributes:
        here: The agent's address.
        port: The agent's port.
        api: The api's address.
    """

    here: str
    port: int
    api: str


def own_traffic(
    ends: Ends, api: ApiTraffic | None, machine: Sequence[str], *, at_home: bool
) -> tuple[OwnTraffic, ...]:
    """The connections that no capture may contain.

    Args:
        ends: Addresses of the connection on which the START was received.
        api: The api's own addresses and ports; None if the api is too old to send them.
        machine: Addresses of this machine, without loopback addresses.
        at_home: Whether the capture is in the network namespace of this agent.
    """
    api_is_here = ends.api in machine or ipaddress.ip_address(ends.api).is_loopback
    ours = _networks((ends.here, *machine), loopback=at_home)
    rules = [OwnTraffic(ours, (ends.port,))]
    if api is not None:
        loopback = at_home and api_is_here
        theirs = _networks((ends.api, *api.addresses), loopback=loopback)
        rules.append(OwnTraffic(_listener(api, theirs, loopback=loopback), (api.port,)))
        rules.append(OwnTraffic(theirs, api.agent_ports, far=True))
    return tuple(rule for rule in rules if rule.networks and rule.ports)


def _listener(api: ApiTraffic, theirs: tuple[Network, ...], *, loopback: bool) -> tuple[Network, ...]:
    if api.listens_at is None:
        return theirs
    network = ipaddress.ip_network(api.listens_at)
    return (network,) if loopback or not network.is_loopback else ()


def _networks(addresses: Iterable[str], *, loopback: bool) -> tuple[Network, ...]:
    parsed = (ipaddress.ip_network(address) for address in dict.fromkeys(addresses))
    networks = [network for network in parsed if not network.is_loopback]
    if len(networks) > OWN_ADDRESSES_MAX:
        return _EVERYWHERE
    return (*networks, *(_LOOPBACK if loopback else ()))
