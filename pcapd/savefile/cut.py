"""Find the last whole block of what could be written of a file."""

from __future__ import annotations

import struct
from typing import Dict, NamedTuple

from pcapd.records import HEADER_SIZE, Form

__all__ = ["Cut", "Fit", "Tail", "cut", "fit", "tail"]

_PCAP_HEADER = 24
_ENHANCED_PACKET = 6
_DROP_COUNT = 4


class Cut(NamedTuple):
    """Where to cut.

    Attributes:
        kept: Bytes of whole blocks.
        lost: Packets after them.
    """

    kept: int
    lost: int


def cut(form: Form, data: bytes, written: int, *, begins_file: bool) -> Cut:
    """Find the last whole block.

    Args:
        form: Of the file.
        data: Whole blocks that were to be written.
        written: Bytes of them that were.
        begins_file: They are the file's first.
    """
    position = kept = lost = 0
    while position < len(data):
        size, is_packet = _block(form, data, position, begins_file)
        position += size
        if position <= written:
            kept = position
        elif is_packet:
            lost += 1
    return Cut(kept, lost)


class Fit(NamedTuple):
    """How much of a piece fits.

    Attributes:
        end: Where its last block that fits ends.
        packets: In these blocks.
    """

    end: int
    packets: int


def fit(form: Form, data: bytes, begin: int, room: int, *, at_least: int = 0) -> Fit:
    """Find how many of a piece's packets fit; looks at no more of them than that.

    Args:
        form: Of the file.
        data: Whole blocks of packets.
        begin: Where to begin in it.
        room: Bytes that they may have.
        at_least: Packets that count as fitting whatever their length.
    """
    position, packets = begin, 0
    while position < len(data):
        size, _ = _block(form, data, position, begins_file=False)
        if position + size - begin > room and packets >= at_least:
            break
        position += size
        packets += 1
    return Fit(position, packets)


class Tail(NamedTuple):
    """The last packets of one interface.

    Attributes:
        packets: How many.
        drops: What their epb_dropcount tell.
    """

    packets: int
    drops: int


def tail(data: bytes, packets: int) -> Dict[int, Tail]:
    """Whose the last packets of a pcapng file's blocks are.

    Args:
        data: Whole blocks, as we make them.
        packets: How many of the last ones; at most those there are.
    """
    blocks = []
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from("<II", data, position)
        if kind == _ENHANCED_PACKET:
            blocks.append((position, position + size))
        position += size
    found: Dict[int, Tail] = {}
    for begin, end in blocks[max(0, len(blocks) - packets) :]:
        interface, _, _, captured = struct.unpack_from("<4I", data, begin + 8)
        before = found.get(interface, Tail(0, 0))
        drops = _drop_count(data, begin + 28 + (captured + 3 & ~3), end - 4)
        found[interface] = Tail(before.packets + 1, before.drops + drops)
    return found


def _drop_count(data: bytes, position: int, end: int) -> int:
    while position < end:
        code, length = struct.unpack_from("<HH", data, position)
        if code == _DROP_COUNT:
            return int.from_bytes(data[position + 4 : position + 12], "little")
        position += 4 + (length + 3 & ~3)
    return 0


def _block(form: Form, data: bytes, position: int, begins_file: bool) -> tuple[int, bool]:
    if form is Form.PCAPNG:
        kind, size = struct.unpack_from("<II", data, position)
        return size, kind == _ENHANCED_PACKET
    if begins_file and position == 0:
        return _PCAP_HEADER, False
    (captured,) = struct.unpack_from("<I", data, position + 8)
    return HEADER_SIZE + captured, True
