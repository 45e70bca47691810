"""Which bytes of a packet stay the same on its way, so that two sightings of it can be recognised."""

from __future__ import annotations

from typing import Optional

from pcapd.packet.headers import IPV4, TRANSPORTS, Fragment, Headers

__all__ = ["digest", "unchanging"]

_U64: int = 2**64 - 1


def unchanging(data: bytes, headers: Headers) -> Optional[bytes]:
    """The bytes that routers and network cards leave alone, from the IP header on.

    Time to live (hop limit) and checksums become zeros: routers count the one down,
    and a card that computes the other later leaves it unset where it is sent.  What
    is behind the IP packet (padding of short frames) is cut off.

    Args:
        data: What was captured of the packet.
        headers: What `walk` found in it.

    Returns:
        None when it is not an IP packet, or its header was cut off.
    """
    if not headers.family:
        return None
    start = headers.network
    packet = bytearray(data[start : headers.stop or None])
    if headers.kind == IPV4:
        packet[8] = packet[10] = packet[11] = 0
    else:
        packet[7] = 0
    transport = TRANSPORTS.get(headers.protocol)
    if transport is not None and transport.checksum_at and headers.transport >= 0:
        at = headers.transport - start + transport.checksum_at
        # A fragmented packet has its checksum in the first fragment.
        if headers.fragment is not Fragment.LATER and at + 2 <= len(packet):
            packet[at] = packet[at + 1] = 0
    return bytes(packet)


def digest(content: bytes) -> int:
    """A number of 64 bits for what `unchanging` found, the same for equal bytes in this process only.

    It is Python's own hash of bytes (SipHash with a key of the process), which is fast,
    and for which nobody outside can make two packets that collide.
    """
    return hash(content) & _U64
