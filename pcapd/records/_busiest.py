"""Finds TCP connections with many packets or bytes in a batch; ``_native.c`` does the same in C."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Dict, Final, List, Optional, Tuple

from pcapd.packet.flow import flow_key
from pcapd.packet.headers import TCP, walk
from pcapd.records._types import MICROS, Busy

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["busiest"]

#: Largest number of packets of a batch that are examined.
PACKETS: Final = 512
#: A connection is reported if it has at least 1/PART of the packets or of the bytes.
PART: Final = 32

_META: Final = struct.Struct("=4I")


def busiest(packets: Buffer, meta: Buffer, link_type: int) -> Tuple[int, int, List[Busy]]:
    """Find the TCP connections that have a large part of a batch.

    Args:
        packets, meta: See `pcapd.records.pack`.
        link_type: LINKTYPE of the packets.

    Returns:
        The number of examined packets, their bytes, and each TCP connection that has at least
        one 32nd of these packets or bytes.

    Raises:
        ValueError: ``meta`` points outside ``packets``.
    """
    content = memoryview(packets).cast("B").tobytes()
    entries = memoryview(meta).cast("B").tobytes()
    if len(entries) % _META.size:
        raise ValueError(f"meta has {len(entries)} bytes, which is not a multiple of 16")
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
    """Both ends of a TCP connection, in the same order for both directions; None for other packets."""
    flow = flow_key(packet, walk(link_type, packet))
    if flow is None or flow.protocol != TCP or flow.ports is None:
        return None
    source, destination = (
        address + port.to_bytes(2, "big")
        for address, port in zip((flow.source, flow.destination), flow.ports)
    )
    return min(source, destination) + max(source, destination)
