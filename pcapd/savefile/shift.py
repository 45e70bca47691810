"""Copies a pcapng file with the times of each interface corrected to another clock.

The blocks of an interface keep their order, and the interfaces are merged by their new
times.  Memory stays constant: the file is read once for each interface.
"""

from __future__ import annotations

import heapq
import struct
from typing import BinaryIO, Callable, Dict, Final, Iterator, List, NamedTuple, Sequence, Tuple

from pcapd.savefile.blocks import BadFile, FileInterface
from pcapd.savefile.blocks.layout import (
    ENHANCED_PACKET,
    INTERFACE_DESCRIPTION,
    INTERFACE_STATISTICS,
    OBSOLETE_PACKET,
    PACKETS,
    SIMPLE_PACKET,
)
from pcapd.savefile.blocks.writing import corrected_interface
from pcapd.savefile.reader import raw_blocks

__all__ = ["Clock", "shifted"]

#: Offset of the time in blocks that have one; the interface's number is directly before it.
_TIME_AT: Final = 12
_START_TIME, _END_TIME = 2, 3  # options of a statistics block


class Clock(NamedTuple):
    """The correction of an interface's times.

    Attributes:
        offset: Returns the microseconds to subtract from a time in microseconds since the epoch.
        comment: A comment for the interface block.
    """

    offset: Callable[[int], int]
    comment: str


def shifted(open_file: Callable[[], BinaryIO], clocks: Sequence[Clock]) -> Iterator[bytes]:
    """Make the blocks of the new file.

    Args:
        open_file: Opens the old file; called several times.
        clocks: One for each interface of the file.

    Raises:
        BadFile: The file is not pcapng, has several sections, or packets without a time.
    """
    head, tail, interfaces = _others(open_file, clocks)
    yield from head
    streams = [
        _packets(open_file, number, interface, clocks[number].offset)
        for number, interface in enumerate(interfaces)
    ]
    for _, _, block in heapq.merge(*streams, key=lambda entry: entry[:2]):
        yield block
    yield from tail


def _others(
    open_file: Callable[[], BinaryIO], clocks: Sequence[Clock]
) -> Tuple[List[bytes], List[bytes], List[FileInterface]]:
    """The blocks before the packets, the blocks after them, and the interfaces."""
    head: List[bytes] = []
    tail: List[bytes] = []
    statistics: Dict[int, bytes] = {}
    interfaces: List[FileInterface] = []
    packets = False
    with open_file() as file:
        for reader, block in raw_blocks(file):
            order = reader.order
            (kind,) = struct.unpack_from(f"{order}I", block)
            interfaces = reader.interfaces
            if kind == INTERFACE_DESCRIPTION:
                head.append(corrected_interface(block, order, clocks[len(interfaces) - 1].comment))
            elif kind == SIMPLE_PACKET:
                raise BadFile("it has packets without a time")
            elif kind in PACKETS:
                packets = True
            elif kind == INTERFACE_STATISTICS:
                number = struct.unpack_from(f"{order}I", block, 8)[0]
                if number < len(interfaces):
                    statistics[number] = _moved(block, order, interfaces[number], clocks[number].offset)
            elif block[:4] == b"\n\r\r\n" and head:
                raise BadFile("it has several sections", "write each of them to a file of its own")
            else:
                (tail if packets else head).append(block)
    return head, [*tail, *(statistics[number] for number in sorted(statistics))], interfaces


def _packets(
    open_file: Callable[[], BinaryIO], number: int, interface: FileInterface, offset: Callable[[int], int]
) -> Iterator[Tuple[int, int, bytes]]:
    """For each packet block of one interface: the new time, the interface's number, the new block."""
    with open_file() as file:
        for reader, block in raw_blocks(file):
            kind, _, own = struct.unpack_from(f"{reader.order}3I", block)
            if kind == OBSOLETE_PACKET:
                own = struct.unpack_from(f"{reader.order}H", block, 8)[0]
            if own == number and kind in {ENHANCED_PACKET, OBSOLETE_PACKET}:
                moved = _moved(block, reader.order, interface, offset)
                yield _time(moved, reader.order, interface), number, moved


def _time(block: bytes, order: str, interface: FileInterface) -> int:
    high, low = struct.unpack_from(f"{order}II", block, _TIME_AT)
    time: int = high << 32 | low
    return time * 1_000_000 // interface.ticks


def _moved(block: bytes, order: str, interface: FileInterface, offset: Callable[[int], int]) -> bytes:
    """A packet block or statistics block with corrected times."""
    moved = bytearray(block)
    places: List[int] = [_TIME_AT]
    if struct.unpack_from(f"{order}I", block)[0] == INTERFACE_STATISTICS:
        places += _option_times(block, order)
    for at in places:
        high, low = struct.unpack_from(f"{order}II", block, at)
        time = high << 32 | low
        us = time * 1_000_000 // interface.ticks + interface.offset_us
        time = max(0, time - offset(us) * interface.ticks // 1_000_000)
        struct.pack_into(f"{order}II", moved, at, time >> 32 & 0xFFFF_FFFF, time & 0xFFFF_FFFF)
    return bytes(moved)


def _option_times(block: bytes, order: str) -> Iterator[int]:
    """The offsets of the start time and the end time in a statistics block."""
    at, end = _TIME_AT + 8, len(block) - 4
    while at + 4 <= end:
        code, size = struct.unpack_from(f"{order}2H", block, at)
        if code in {_START_TIME, _END_TIME} and size == 8 and at + 12 <= end:
            yield at + 4
        if code == 0:
            return
        at += 4 + size + (-size & 3)
