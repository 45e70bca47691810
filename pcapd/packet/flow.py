"""Finds the conversation of a packet, and its direction."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from pcapd.packet.headers import TRANSPORTS, Fragment, Headers

__all__ = ["FlowKey", "flow_key", "ports_of"]


class FlowKey(NamedTuple):
    """One direction of a conversation.

    Attributes:
        source: Source address, packed.
        destination: Destination address, packed.
        protocol: IP's protocol number.
        ports: Ports of source and destination; None if the protocol or the fragment has no ports.
    """

    source: bytes
    destination: bytes
    protocol: int
    ports: Optional[Tuple[int, int]]


def flow_key(data: bytes, headers: Headers) -> Optional[FlowKey]:
    """The flow of a packet; None if it is not an IP packet.

    Args:
        data: The captured bytes of the packet.
        headers: The result of `walk` for it.
    """
    if not headers.family:
        return None
    size = 4 if headers.family == 4 else 16
    at = headers.network + (12 if headers.family == 4 else 8)
    source, destination = data[at : at + size], data[at + size : at + 2 * size]
    return FlowKey(source, destination, headers.protocol, ports_of(data, headers))


def ports_of(data: bytes, headers: Headers) -> Optional[Tuple[int, int]]:
    """The ports of source and destination; None if there are none, or they were not captured."""
    at, transport = headers.transport, TRANSPORTS.get(headers.protocol)
    with_ports = transport is not None and transport.ports and headers.fragment is not Fragment.LATER
    if not with_ports or at < 0 or len(data) < at + 4:
        return None
    return data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
