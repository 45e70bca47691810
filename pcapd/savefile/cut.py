"""Find the last whole block of what could be written of a file."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pcapd.records import HEADER_SIZE, Form

__all__ = ["Cut", "cut"]

_PCAP_HEADER = 24
_ENHANCED_PACKET = 6


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


def _block(form: Form, data: bytes, position: int, begins_file: bool) -> tuple[int, bool]:
    if form is Form.PCAPNG:
        kind, size = struct.unpack_from("<II", data, position)
        return size, kind == _ENHANCED_PACKET
    if begins_file and position == 0:
        return _PCAP_HEADER, False
    (captured,) = struct.unpack_from("<I", data, position + 8)
    return HEADER_SIZE + captured, True
