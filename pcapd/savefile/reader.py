"""Reads pcapng files of any program; files are not trusted.

A file may have several sections (draft-ietf-opsawg-pcapng).  Blocks that are not needed
are skipped.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Tuple

from pcapd.limits import FILE_INTERFACES_MAX, FILE_READ_SIZE
from pcapd.packet.row import make_row
from pcapd.savefile import blocks
from pcapd.savefile._reference import packed_interfaces
from pcapd.savefile.blocks import BadFile, FileInterface, FilePacket, FileStatistics
from pcapd.savefile.blocks.layout import PACKETS

try:
    if os.environ.get("PCAPD_PURE"):
        raise ImportError("PCAPD_PURE asks for the reference")
    from pcapd.savefile._native import packet_rows
except ImportError:
    from pcapd.savefile._reference import packet_rows

__all__ = ["BadFile", "FileInterface", "FilePacket", "Reader", "Rows", "raw_blocks", "read_file", "read_rows"]


class Reader:
    """Reads the blocks of a file in order.

    Attributes:
        interfaces: The interfaces of the present section.
        order: The byte order of this section: ``<`` or ``>``.
    """

    def __init__(self) -> None:
        self.interfaces: List[FileInterface] = []
        self.order = "<"

    def packets(self, data: bytes) -> Iterator[FilePacket]:
        """Read the packets in whole blocks.

        Raises:
            BadFile: A block is not valid.
        """
        position = 0
        while position < len(data):
            block = self.whole_block(data, position)
            if not block:
                raise BadFile("the file ends within a block")
            packet = self.block(block)
            if packet is not None:
                yield packet
            position += len(block)

    def whole_block(self, data: bytes, position: int) -> bytes:
        """The block at a position; empty if it is incomplete.

        Raises:
            BadFile: The block is not valid.
        """
        start = data[position : position + blocks.BLOCK_FRAME]
        if len(start) < blocks.BLOCK_FRAME:
            return b""
        self.order = blocks.section_order(start) or self.order
        return blocks.whole_block(data, position, self.order)

    def block(self, block: bytes) -> Optional[FilePacket]:
        """Read one whole block; return its packet, or None if it contains none.

        Raises:
            BadFile: The block is not valid.
        """
        if blocks.section_order(block) is not None:
            self.interfaces = []
            return None
        interface = blocks.read_interface(block, self.order, str(len(self.interfaces)))
        if interface is None:
            return blocks.read_packet(block, self.order, self.interfaces)
        if len(self.interfaces) >= FILE_INTERFACES_MAX:
            raise BadFile(f"there are more than {FILE_INTERFACES_MAX} interfaces")
        self.interfaces.append(interface)
        return None


class Rows(NamedTuple):
    """Rows of some packets, and the part of the file with these packets.

    Attributes:
        rows: Rows (see `pcapd.packet.row`), whose ``at`` is a position in `data`.
        data: The part of the file.
    """

    rows: bytes
    data: bytes


class _Window:
    """The part of a file that is being read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0
        self.data = file.read(FILE_READ_SIZE)
        if self.data[:4] != b"\n\r\r\n":
            raise BadFile(
                "this is not a pcapng file", "classic pcap does not show which interface saw a packet"
            )

    def move(self) -> bool:
        """Read more data after `position`, and drop the data before it; return whether there is more."""
        more = self._file.read(FILE_READ_SIZE)
        self.data = self.data[self.position :] + more
        self.position = 0
        return bool(more)


def read_file(file: BinaryIO) -> Iterator[FilePacket]:
    """Read the packets of a file; like all readers, skip an incomplete last block.

    Raises:
        BadFile: The file is not valid pcapng.
    """
    reader, window = Reader(), _Window(file)
    while True:
        block = reader.whole_block(window.data, window.position)
        packet = reader.block(block) if block else None
        window.position += len(block)
        if packet is not None:
            yield packet
        elif not block and not window.move():
            return


def raw_blocks(file: BinaryIO) -> Iterator[Tuple[Reader, bytes]]:
    """Yield the whole blocks of a file unchanged, with the reader; packets are not parsed.

    Raises:
        BadFile: The file is not valid pcapng.
    """
    reader, window = Reader(), _Window(file)
    while True:
        block = reader.whole_block(window.data, window.position)
        window.position += len(block)
        if block:
            if struct.unpack_from(f"{reader.order}I", block)[0] not in PACKETS:
                reader.block(block)
            yield reader, block
        elif not window.move():
            return


def read_rows(
    file: BinaryIO,
    place: Callable[[FileInterface], int],
    statistics: Optional[Callable[[int, FileStatistics], None]] = None,
) -> Iterator[Rows]:
    """Read the packets of a file as rows, many at a time.

    Args:
        place: Returns the number that the rows of an interface contain.
        statistics: Called for each statistics block, with this number and the counters.

    Raises:
        BadFile: The file is not valid pcapng.
    """
    reader, window = Reader(), _Window(file)
    places: List[int] = []
    packed = b""
    while True:
        rows, end = packet_rows(window.data, window.position, reader.order == ">", packed)
        window.position = end
        if rows:
            yield Rows(rows, window.data)
        block = reader.whole_block(window.data, end)
        packet = reader.block(block) if block else None
        window.position += len(block)
        if packet is not None:  # a packet that the compiled function does not read
            row = make_row(
                packet.interface.link_type,
                packet.data,
                packet.us,
                packet.length,
                places[packet.number],
                end + packet.at,
                packet.packet_id,
                packet.drops,
            )
            yield Rows(row, window.data)
        elif not block and not window.move():
            return
        elif len(places) != len(reader.interfaces):
            places = [] if not reader.interfaces else places
            places += [place(interface) for interface in reader.interfaces[len(places) :]]
            packed = packed_interfaces(reader.interfaces, places)
        elif block and statistics is not None:
            counters = blocks.read_statistics(block, reader.order, reader.interfaces)
            if counters is not None and counters.number < len(places):
                statistics(places[counters.number], counters)
