"""Packets, layer by layer, written out by the book."""

from __future__ import annotations

import ipaddress
import struct

MACS = bytes(12)


def ethernet(packet: bytes, macs: bytes = MACS, tags: bytes = b"") -> bytes:
    """A frame around an IP packet."""
    return macs + tags + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def ipv4(payload: bytes, protocol: int = 17, *, ttl: int = 64, checksum: int = 0, fragment: int = 0) -> bytes:
    """A packet from 192.0.2.1 to 192.0.2.2; `fragment` holds flags and offset."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, ttl, protocol, checksum)
    return head + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + payload


def ipv6(payload: bytes, protocol: int = 17, *, hops: int = 64, length: int = -1) -> bytes:
    """A packet from 2001:db8::1 to 2001:db8::2."""
    ends = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed
    size = len(payload) if length < 0 else length
    return struct.pack("!IHBB", 6 << 28, size, protocol, hops) + ends + payload


def udp(payload: bytes, checksum: int = 0, *, source: int = 40000, destination: int = 9) -> bytes:
    """A datagram."""
    return struct.pack("!4H", source, destination, 8 + len(payload), checksum) + payload


def tcp(payload: bytes = b"", checksum: int = 0, *, flags: int = 16, source: int = 40000, destination: int = 80,
        seq: int = 1) -> bytes:  # fmt: skip
    """A segment without options."""
    return struct.pack("!HHIIBBHHH", source, destination, seq, 2, 5 << 4, flags, 99, checksum, 0) + payload
