"""Finds the last whole block in a partly written file."""

from __future__ import annotations

import struct
from typing import Dict, NamedTuple

from pcapd.records import HEADER_SIZE
from pcapd.savefile import blocks
from pcapd.savefile.form import Form

__all__ = ["Cut", "Fit", "Tail", "cut", "fit", "tail"]

_PCAP_HEADER = 24


class Cut(NamedTuple):
    """The position after the last whole block.

    Attributes:
        kept: Number of bytes of whole blocks.
        lost: Number of packets after them.
    """

    kept: int
    lost: int


def cut(form: Form, data: bytes, written: int, *, begins_file: bool) -> Cut:
    """Find the last whole block.

    Args:
        form: The form of the file.
        data: Whole blocks that should have been written.
        written: The number of bytes of `data` that were written.
        begins_file: Whether `data` begins the file.
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
    """The part of a piece that fits.

    Attributes:
        end: The end of the last block that fits.
        packets: The number of packets in these blocks.
    """

    end: int
    packets: int


def fit(form: Form, data: bytes, begin: int, room: int, *, at_least: int = 0) -> Fit:
    """Find how many of a piece's packets fit into a file.

    Args:
        form: The form of the file.
        data: Whole blocks of packets.
        begin: Position of the first block in `data`.
        room: The remaining room in bytes.
        at_least: Number of packets that are included even if they do not fit.
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
        packets: The number of packets.
        drops: The sum of their epb_dropcount.
    """

    packets: int
    drops: int


def tail(data: bytes, packets: int) -> Dict[int, Tail]:
    """The last packets of a pcapng file's blocks, by interface.

    Args:
        data: Whole blocks that pcapd wrote.
        packets: How many of the last packets to count; at most all.
    """
    found: Dict[int, Tail] = {}
    theirs = [(begin, end) for kind, begin, end in blocks.own_blocks(data) if blocks.is_packet(kind)]
    for begin, end in theirs[max(0, len(theirs) - packets) :]:
        interface, drops = blocks.own_packet(data[begin:end])
        before = found.get(interface, Tail(0, 0))
        found[interface] = Tail(before.packets + 1, before.drops + drops)
    return found


def _block(form: Form, data: bytes, position: int, begins_file: bool) -> tuple[int, bool]:
    if form is Form.PCAPNG:
        kind, begin, end = next(blocks.own_blocks(data, position))
        return end - begin, blocks.is_packet(kind)
    if begins_file and position == 0:
        return _PCAP_HEADER, False
    (captured,) = struct.unpack_from("<I", data, position + 8)
    return HEADER_SIZE + captured, True
