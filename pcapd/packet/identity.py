"""Selects the bytes of a packet that routers do not change, to recognise it at other places."""

from __future__ import annotations

from typing import Optional

from pcapd.packet.headers import IPV4, TRANSPORTS, Fragment, Headers

__all__ = ["digest", "unchanging"]

_U64: int = 2**64 - 1


def unchanging(data: bytes, headers: Headers) -> Optional[bytes]:
    """The bytes that routers and network cards do not change, from the IP header on.

    Time to live (hop limit) and checksums become zeros: routers decrease the former, and the
    latter are not set in a capture at the sender if its network card computes them later.  Bytes after
    the IP packet (padding of short frames) are cut off.

    Args:
        data: The captured bytes of the packet.
        headers: The result of `walk` for it.

    Returns:
        The bytes; None if it is not an IP packet, or its IP header was cut off.
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
        # Only the first fragment of a packet contains the layer-4 checksum.
        if headers.fragment is not Fragment.LATER and at + 2 <= len(packet):
            packet[at] = packet[at + 1] = 0
    return bytes(packet)


def digest(content: bytes) -> int:
    """A 64-bit hash of a result of `unchanging`; it is different in each process.

    It is Python's own hash of bytes (SipHash with a random key per process), which is fast,
    and an attacker cannot make two packets with the same hash.
    """
    return hash(content) & _U64
