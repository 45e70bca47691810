"""Reads blocks of any program; see `pcapd.savefile.blocks`."""

from __future__ import annotations

import re
import struct
from typing import Dict, Final, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.errors import PcapdError
from pcapd.limits import BLOCK_MAX
from pcapd.savefile.blocks.layout import (
    BLOCK_FRAME,
    DEDUPED,
    DROP_COUNT,
    ENHANCED_PACKET,
    INTERFACE_DESCRIPTION,
    INTERFACE_STATISTICS,
    MAGIC,
    OBSOLETE_PACKET,
    PACKET,
    PACKET_FRAME,
    PACKET_ID,
    PACKETS,
    PLAIN,
    SIMPLE_PACKET,
    TSRESOL_MICROS,
    U16,
    US_MAX,
)

__all__ = [
    "BadFile",
    "FileInterface",
    "FilePacket",
    "FileStatistics",
    "block_length",
    "is_packet",
    "own_blocks",
    "own_packet",
    "own_time",
    "own_times",
    "plain_packet",
    "read_interface",
    "read_packet",
    "read_statistics",
    "section_order",
    "whole_block",
]

#: Matches the clock offset that `pcapd.merge.muxer.describe` writes, in milliseconds.
_CLOCK_OFFSET: Final = re.compile(
    r"clock offset ([-+]\d{1,12}(?:\.\d{1,6})?)(?: ± (\d{1,12}(?:\.\d{1,6})?))? ms"
)


class BadFile(PcapdError):
    """The file is not a valid pcapng file."""


class FileInterface(NamedTuple):
    """The content of an interface block.

    Attributes:
        ticks: Number of units of a timestamp in one second.
        offset_us: Microseconds to add to each timestamp.
        addresses: The interface's IP addresses, packed.
        snaplen: The largest number of bytes kept of a packet; 0 means no limit.
        clock_offset: Microseconds by which the machine's clock is ahead, and the largest error of
            this number; None if the interface's description does not contain them.
        deduped: Whether a packet that several interfaces saw is in the file only once (``--dedupe``).
    """

    name: str
    link_type: int
    ticks: int = 1_000_000
    offset_us: int = 0
    addresses: Tuple[bytes, ...] = ()
    snaplen: int = 0
    clock_offset: Optional[Tuple[int, Optional[int]]] = None
    deduped: bool = False


class FileStatistics(NamedTuple):
    """The content of a statistics block: the counters of an interface.

    Attributes:
        number: The interface's number in its section.
        dropped: Number of packets that interface and kernel lost since the start of the capture.
        until_us: End of the counted time in microseconds since the epoch; 0 if unknown.
    """

    number: int
    dropped: int
    until_us: int = 0


class FilePacket(NamedTuple):
    """One packet.

    Attributes:
        us: Microseconds since the epoch; 0 if the block has no time.
        length: Original length in bytes.
        data: The captured bytes.
        packet_id: epb_packetid; the same for the same packet at several interfaces.
        drops: Number of packets that were lost between the previous one of the interface and
            this one (epb_dropcount).
        number: The interface's number in its section.
        at: The offset of the captured bytes in the block.
    """

    interface: FileInterface
    us: int
    length: int
    data: bytes
    packet_id: Optional[int] = None
    drops: int = 0
    number: int = 0
    at: int = 0


def own_blocks(data: bytes, position: int = 0) -> Iterator[Tuple[int, int, int]]:
    """The type, begin and end of each block, for blocks that pcapd wrote."""
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position)
        yield kind, position, position + length
        position += length


def is_packet(kind: int) -> bool:
    """Whether a block of this type is a packet."""
    return kind in PACKETS


def own_packet(block: bytes) -> Tuple[int, int]:
    """The interface and the epb_dropcount of a packet block that pcapd wrote."""
    interface, _, _, captured = struct.unpack_from("<4I", block, 8)
    options = _options(block, PACKET.size + captured + (-captured & 3), "<")
    return interface, int.from_bytes(_first(options, DROP_COUNT), "little")


def own_time(data: bytes, position: int) -> int:
    """The time of the packet block at a position, which pcapd wrote, in microseconds since the epoch."""
    high, low = struct.unpack_from("<II", data, position + 12)
    return int(high) << 32 | int(low)


def own_times(data: bytes) -> Tuple[int, int]:
    """The times of the first and the last packet in whole packet blocks that pcapd wrote.

    Returns:
        Microseconds since the epoch.
    """
    (length,) = struct.unpack_from("<I", data, len(data) - 4)
    return own_time(data, 0), own_time(data, len(data) - length)


def section_order(block: bytes) -> Optional[str]:
    """The byte order, ``<`` or ``>``, if these bytes begin a section, else None.

    Raises:
        BadFile: The magic number is wrong.
    """
    if block[:4] != b"\n\r\r\n":
        return None
    for order in "<>":
        if block[8:12] == struct.pack(f"{order}I", MAGIC):
            return order
    raise BadFile("a section begins without its magic number")


def block_length(start: bytes, order: str) -> int:
    """The length of the block that begins with these twelve bytes.

    Raises:
        BadFile: The length is not valid.
    """
    length: int = struct.unpack_from(f"{order}I", start, 4)[0]
    if length < BLOCK_FRAME or length % 4 or length > BLOCK_MAX:
        raise BadFile(f"a block has the invalid length {length}")
    return length


def whole_block(data: bytes, position: int, order: str) -> bytes:
    """The block at a position; empty if it is incomplete.

    Raises:
        BadFile: The length is not valid.
    """
    if len(data) - position < BLOCK_FRAME:
        return b""
    length = block_length(data[position : position + BLOCK_FRAME], order)
    if length > len(data) - position:
        return b""
    (again,) = struct.unpack_from(f"{order}I", data, position + length - 4)
    if again != length:
        raise BadFile(f"a block has two different lengths, {length} and {again}")
    return data[position : position + length]


def read_interface(block: bytes, order: str, default: str) -> Optional[FileInterface]:
    """Read an interface block; None for other blocks.

    Args:
        default: Name of the interface if the block contains none.

    Raises:
        BadFile: The block is too short, or not valid.
    """
    if struct.unpack_from(f"{order}I", block)[0] != INTERFACE_DESCRIPTION:
        return None
    try:
        link_type, _, snaplen = struct.unpack_from(f"{order}HHI", block, 8)
    except struct.error as error:
        raise _too_short() from error
    options = _options(block, 16, order)
    resolution = _first(options, 9) or TSRESOL_MICROS
    base, exponent = (2, resolution[0] & 0x7F) if resolution[0] & 0x80 else (10, resolution[0])
    offset = _first(options, 14)
    seconds = struct.unpack(f"{order}q", offset)[0] if len(offset) == 8 else 0
    addresses = [value[:4] for value in options.get(4, [])] + [value[:16] for value in options.get(5, [])]
    name = _first(options, 2).decode("utf-8", "replace") or default
    description = _first(options, 3).decode("utf-8", "replace")
    return FileInterface(
        name,
        link_type,
        base**exponent,
        seconds * 1_000_000,
        tuple(addresses),
        snaplen,
        _clock_offset(description),
        description.endswith(DEDUPED),
    )


def _clock_offset(description: str) -> Optional[Tuple[int, Optional[int]]]:
    found = _CLOCK_OFFSET.search(description)
    if found is None:
        return None
    offset, error = (round(float(part) * 1000) if part else None for part in found.groups())
    return offset or 0, error


def read_statistics(
    block: bytes, order: str, interfaces: Sequence[FileInterface] = ()
) -> Optional[FileStatistics]:
    """Read the counters of a statistics block; None for other blocks.

    Raises:
        BadFile: The block is too short, or not valid.
    """
    if struct.unpack_from(f"{order}I", block)[0] != INTERFACE_STATISTICS:
        return None
    try:
        (number,) = struct.unpack_from(f"{order}I", block, 8)
    except struct.error as error:
        raise _too_short() from error
    options = _options(block, 20, order)
    dropped = (_number_in(options, code, order) for code in (5, 7))
    end, until = _first(options, 3), 0
    if len(end) == 8 and number < len(interfaces):
        high, low = struct.unpack(f"{order}II", end)
        until = _micros(interfaces[number], high << 32 | low)
    return FileStatistics(number, sum(count or 0 for count in dropped), until)


def read_packet(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> Optional[FilePacket]:
    """Read a whole packet block; None for other blocks.

    Args:
        interfaces: The interfaces of the block's section.

    Raises:
        BadFile: The block is too short, or not valid.
    """
    (kind,) = struct.unpack_from(f"{order}I", block)
    try:
        if kind == ENHANCED_PACKET:
            return _enhanced(block, order, interfaces)
        if kind == SIMPLE_PACKET:
            return _simple(block, order, interfaces)
        if kind == OBSOLETE_PACKET:
            return _obsolete(block, order, interfaces)
    except struct.error as error:
        raise _too_short() from error
    return None


def plain_packet(data: bytes, position: int, order: str) -> Optional[Tuple[int, int, int, int, int]]:
    """Quickly read an enhanced packet block without options; None for other or invalid blocks.

    Returns:
        Interface, time in the interface's units, original length, number of captured bytes
        (which begin at byte 28 of the block), and the end of the block.
    """
    if len(data) - position < PACKET_FRAME:
        return None
    kind, length, interface, high, low, captured, original = PLAIN[order].unpack_from(data, position)
    end = position + length
    if kind != ENHANCED_PACKET or length != PACKET_FRAME + (captured + 3 & ~3) or length > BLOCK_MAX:
        return None
    if end > len(data) or data[end - 4 : end] != data[position + 4 : position + 8] or high >> 29:
        return None
    return interface, high << 32 | low, original, captured, end


def _enhanced(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> FilePacket:
    number, high, low, captured, length = struct.unpack_from(f"{order}5I", block, 8)
    interface = _interface_of(number, interfaces)
    data = _data(block, captured)
    packet_id, drops = None, 0
    if len(block) - PACKET_FRAME - captured - (-captured & 3) >= 4:
        options = _options(block, PACKET.size + captured + (-captured & 3), order)
        packet_id, drops = (
            _number_in(options, PACKET_ID, order),
            _number_in(options, DROP_COUNT, order) or 0,
        )
    us = _micros(interface, high << 32 | low)
    return FilePacket(interface, us, length, data, packet_id, drops, number, PACKET.size)


def _obsolete(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> FilePacket:
    number, drops, high, low, captured, length = struct.unpack_from(f"{order}HH4I", block, 8)
    interface = _interface_of(number, interfaces)
    known = 0 if drops == U16 else drops
    us = _micros(interface, high << 32 | low)
    return FilePacket(interface, us, length, _data(block, captured), None, known, number, PACKET.size)


def _simple(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> FilePacket:
    """Read a simple packet block; it belongs to the first interface, and was cut at its snaplen."""
    (length,) = struct.unpack_from(f"{order}I", block, 8)
    interface = _interface_of(0, interfaces)
    room = len(block) - BLOCK_FRAME - 4
    if room < 0:
        raise _too_short()
    captured = min(length, room, interface.snaplen or room)
    return FilePacket(interface, 0, length, block[12 : 12 + captured], None, 0, 0, 12)


def _interface_of(number: int, interfaces: Sequence[FileInterface]) -> FileInterface:
    if number >= len(interfaces):
        raise BadFile(f"a packet has interface {number}, but the section has {len(interfaces)} interfaces")
    return interfaces[number]


def _data(block: bytes, captured: int) -> bytes:
    if captured > len(block) - PACKET_FRAME:
        raise BadFile(f"a packet has the invalid length {captured}")
    return block[PACKET.size : PACKET.size + captured]


def _micros(interface: FileInterface, time: int) -> int:
    us = time if interface.ticks == 1_000_000 else time * 1_000_000 // max(1, interface.ticks)
    return max(-US_MAX, min(US_MAX, us + interface.offset_us))


def _options(block: bytes, position: int, order: str) -> Dict[int, List[bytes]]:
    """The values of each option, by code."""
    found: Dict[int, List[bytes]] = {}
    for code, value in options_of(block, position, order):
        found.setdefault(code, []).append(value)
    return found


def options_of(block: bytes, position: int, order: str) -> Iterator[Tuple[int, bytes]]:
    """The options of a block from a position on: the code and value of each.

    Raises:
        BadFile: An option is longer than the block.
    """
    end = len(block) - 4
    while position + 4 <= end:
        code, size = struct.unpack_from(f"{order}2H", block, position)
        position += 4
        if code == 0:
            return
        if position + size > end:
            raise BadFile("an option is longer than its block")
        yield code, block[position : position + size]
        position += size + (-size & 3)


def _first(options: Dict[int, List[bytes]], code: int) -> bytes:
    return options.get(code, [b""])[0]


def _number_in(options: Dict[int, List[bytes]], code: int, order: str) -> Optional[int]:
    value = _first(options, code)
    return struct.unpack(f"{order}Q", value)[0] if len(value) == 8 else None


def _too_short() -> BadFile:
    return BadFile("a block is too short for its content")
