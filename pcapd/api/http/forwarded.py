"""The address of a client behind trusted proxies, from ``X-Forwarded-For``.  No I/O.

Each proxy appends the address of its peer.  Everything to the left of the right-most
address that is not a trusted proxy's was written by an untrusted machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Union

from pcapd.limits import FORWARDED_MAX

__all__ = ["Networks", "client_address", "contains"]

Networks = Sequence[Union[IPv4Network, IPv6Network]]


def contains(networks: Networks, address: str) -> bool:
    """Whether an IP address is in one of the networks."""
    found = ip_address(address)
    return any(found in network for network in networks)


def client_address(forwarded: str, peer: str, trusted: Networks) -> str:
    """The address of the client that sent a request.

    Args:
        forwarded: The values of ``X-Forwarded-For``, joined by commas.
        peer: The IP address of the peer of the connection.
        trusted: The networks of the trusted proxies.

    Returns:
        The first address that is not a trusted proxy's, starting with `peer` and then from the
        right; at an entry that cannot be read, the address of the proxy that added it.
    """
    client = peer
    for entry in reversed(forwarded.split(",")[-FORWARDED_MAX:]):
        if not contains(trusted, client):
            break
        named = _address(entry.strip())
        if named is None:
            break
        client = str(named)
    return client


def _address(entry: str) -> IPv4Address | IPv6Address | None:
    """An address, alone or with the port that some proxies add."""
    host = entry
    if entry.startswith("["):
        host = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        host = entry.partition(":")[0]
    if "%" in host:  # a zone is valid only on its own machine, and may be any text
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
