"""Find the last whole block of what could be written of a file."""

from __future__ import annotations

import struct
from typing import Dict, NamedTuple

from pcapd.records import HEADER_SIZE
from pcapd.savefile import blocks
from pcapd.savefile.form import Form

__all__ = ["Cut", "Fit", "Tail", "cut", "fit", "tail"]

_PCAP_HEADER = 24


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
