"""Which TCP connections a batch of packets mostly consists of: the reference for ``_native.c``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Dict, Final, List, Optional, Tuple

from pcapd.records._headers import LINK_TYPES
from pcapd.records._types import MICROS, Busy

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["busiest"]

#: Packets of a batch that are looked at.
PACKETS: Final = 512
#: The connections that are reported have at least this part of them, by number or by bytes.
PART: Final = 32

_META: Final = struct.Struct("=4I")
_TAGS: Final = (0x8100, 0x88A8, 0x9100)
_TAGS_MAX: Final = 4


def busiest(packets: Buffer, meta: Buffer, link_type: int) -> Tuple[int, int, List[Busy]]:
    """Find the connections that have a large part of a batch.

    Args:
        packets, meta: As for `pcapd.records.pack`.
        link_type: LINKTYPE of the packets.

    Returns:
        How many of the packets were looked at and how many bytes they have, and of
        these each TCP connection that has a 32nd part or more, by packets or by bytes.

    Raises:
        ValueError: ``meta`` points outside ``packets``.
    """
    content = memoryview(packets).cast("B").tobytes()
    entries = memoryview(meta).cast("B").tobytes()
    if len(entries) % _META.size:
        raise ValueError(f"meta has {len(entries)} bytes, which is no multiple of 16")
    found: Dict[bytes, Busy] = {}
    size = 0
    looked_at = list(_META.iter_unpack(entries))[:PACKETS]
    for index, (seconds, micros, offset, length) in enumerate(looked_at):
        if offset + length > len(content):
            raise ValueError(
                f"meta entry {index}: {length} bytes at {offset} are not within {len(content)} bytes"
            )
        size += length
        key = _connection(link_type, content[offset : offset + length])
        if key is not None:
            us = seconds * MICROS + micros
            before = found.get(key, Busy(key, 0, 0, us))
            found[key] = Busy(key, before.packets + 1, before.size + length, max(before.last_us, us))
    busy = [one for one in found.values() if one.packets * PART >= len(looked_at) or one.size * PART >= size]
    return len(looked_at), size, busy


def _connection(link_type: int, packet: bytes) -> Optional[bytes]:
    """Both ends of a TCP connection, in an order that both directions share."""
    at = _network_at(link_type, packet)
    if at is None or len(packet) <= at:
        return None
    if packet[at] >> 4 == 4:
        start, size, tcp = at + 12, 4, at + (packet[at] & 0x0F) * 4
        whole = tcp >= at + 20 and len(packet) >= tcp + 4
        usable = whole and packet[at + 9] == 6 and not int.from_bytes(packet[at + 6 : at + 8], "big") & 0x1FFF
    else:
        start, size, tcp = at + 8, 16, at + 40
        usable = packet[at] >> 4 == 6 and len(packet) >= tcp + 4 and packet[at + 6] == 6
    if not usable:
        return None
    source = packet[start : start + size] + packet[tcp : tcp + 2]
    destination = packet[start + size : start + 2 * size] + packet[tcp + 2 : tcp + 4]
    return min(source, destination) + max(source, destination)


def _network_at(link_type: int, packet: bytes) -> Optional[int]:
    """Where the IP header is."""
    if link_type not in LINK_TYPES:
        return None
    size, type_at = {1: (14, 12), 113: (16, 14), 276: (20, 0)}.get(link_type, (0, -1))
    if type_at < 0:
        return 0
    if len(packet) < size:
        return None
    ether_type = int.from_bytes(packet[type_at : type_at + 2], "big")
    for _ in range(_TAGS_MAX):
        if ether_type not in _TAGS or len(packet) < size + 4:
            break
        ether_type = int.from_bytes(packet[size + 2 : size + 4], "big")
        size += 4
    return size if ether_type in (0x0800, 0x86DD) else None
