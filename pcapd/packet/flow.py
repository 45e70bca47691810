"""Which conversation a packet belongs to, and in which direction."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from pcapd.packet.headers import TRANSPORTS, Fragment, Headers

__all__ = ["FlowKey", "flow_key", "ports_of"]


class FlowKey(NamedTuple):
    """One direction of a conversation.

    Attributes:
        source: Address, packed.
        destination: Likewise.
        protocol: Number of IP.
        ports: Of source and destination; None where there are none (or a fragment has none).
    """

    source: bytes
    destination: bytes
    protocol: int
    ports: Optional[Tuple[int, int]]


def flow_key(data: bytes, headers: Headers) -> Optional[FlowKey]:
    """The flow that a packet belongs to; None when it is not an IP packet.

    Args:
        data: What was captured of the packet.
        headers: What `walk` found in it.
    """
    if not headers.family:
        return None
    size = 4 if headers.family == 4 else 16
    at = headers.network + (12 if headers.family == 4 else 8)
    source, destination = data[at : at + size], data[at + size : at + 2 * size]
    return FlowKey(source, destination, headers.protocol, ports_of(data, headers))


def ports_of(data: bytes, headers: Headers) -> Optional[Tuple[int, int]]:
    """The ports of source and destination; None where there are none, or they were cut off."""
    at, transport = headers.transport, TRANSPORTS.get(headers.protocol)
    with_ports = transport is not None and transport.ports and headers.fragment is not Fragment.LATER
    if not with_ports or at < 0 or len(data) < at + 4:
        return None
    return data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
