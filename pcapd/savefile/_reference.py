"""The compiled part of `pcapd.savefile` in plain Python; ``_native.c`` is faster."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Iterable, Iterator, List, Optional, Tuple

from pcapd.limits import BLOCK_MAX
from pcapd.packet.row import make_row
from pcapd.records._reference import as_bytes, number
from pcapd.savefile import blocks
from pcapd.savefile.blocks import BadFile, FileInterface
from pcapd.savefile.blocks.layout import BLOCK_FRAME, ENHANCED_PACKET, PACKET_FRAME

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["between", "packed_interfaces", "packet_rows", "survey"]

#: Number, link type, snaplen, unused; time units in a second, microseconds to add.
_INTERFACE: Final = struct.Struct("=IIIIqq")
#: Time units in a second, and microseconds to add, of most files.
_MICROS: Final = (1_000_000, 0)
_I64: Final = 0x7FFF_FFFF_FFFF_FFFF
_U32: Final = 0xFFFF_FFFF
_HEAD: Final = struct.Struct("<II")
_TIME: Final = struct.Struct("<12xII")


def packed_interfaces(interfaces: Iterable[FileInterface], numbers: Iterable[int]) -> bytes:
    """Pack the interfaces of a section for `packet_rows`.

    Args:
        numbers: For each interface, the number that its rows contain.
    """
    packed = []
    for interface, own in zip(interfaces, numbers):
        usable = 0 < interface.ticks <= _I64
        offset = max(-_I64, min(_I64, interface.offset_us))
        ticks = interface.ticks if usable else 0
        packed.append(_INTERFACE.pack(own, interface.link_type, interface.snaplen, 0, ticks, offset))
    return b"".join(packed)


def packet_rows(data: Buffer, position: int, big_endian: bool, interfaces: Buffer) -> Tuple[bytes, int]:
    """Make rows of consecutive packet blocks.

    Args:
        data: A part of a pcapng file, less than 4 GiB.
        position: The position of the first block in `data`.
        big_endian: Whether the section is big endian.
        interfaces: The result of `packed_interfaces`.

    Returns:
        Rows (see `pcapd.packet.row`), whose ``at`` is a position in `data`; and the position
        of the first block that is not a packet, is incomplete, or is not valid.

    Raises:
        ValueError: The position is out of range.
    """
    content, table = as_bytes(data), as_bytes(interfaces)
    position = number("position", position, 0, _I64)
    if position > len(content) or len(content) > _U32:
        raise ValueError("position is beyond the end, or there are 4 GiB or more")
    fields = list(_INTERFACE.iter_unpack(table[: len(table) - len(table) % _INTERFACE.size]))
    known = [
        FileInterface("", link_type, ticks, offset, (), snaplen)
        for _, link_type, snaplen, _, ticks, offset in fields
    ]
    order = ">" if big_endian else "<"
    rows: List[bytes] = []
    while True:
        plain = blocks.plain_packet(content, position, order)
        if plain is not None and plain[0] < len(fields) and fields[plain[0]][4:] == _MICROS:
            index, us, length, captured, end = plain
            data, drops, packet_id, at = content[position + 28 : position + 28 + captured], 0, None, 28
        else:
            try:
                block = blocks.whole_block(content, position, order)
                packet = blocks.read_packet(block, order, known) if block else None
            except BadFile:
                break
            if packet is None or fields[packet.number][4] <= 0:
                break
            _, us, length, data, packet_id, drops, index, at = packet
            end = position + len(block)
        own, link_type = fields[index][:2]
        rows.append(make_row(link_type, data, us, length, own, position + at, packet_id, drops))
        position = end
    return b"".join(rows), position


def survey(data: Buffer, most: int) -> Tuple[int, int, int, int, List[int]]:
    """Find the whole blocks at the beginning of some bytes that pcapd wrote, and the latest packets in them.

    Args:
        data: Blocks; the last one may be incomplete.
        most: The largest number of positions to return.

    Returns:
        Bytes of the whole blocks; the number of packets in them; the time of the first packet and the
        latest time, in microseconds since the epoch, both 0 without packets; and the positions of the
        last packets of that latest time.

    Raises:
        ValueError: These are not blocks that pcapd wrote.
    """
    content = as_bytes(data)
    most = number("most", most, 0, _U32)
    end = packets = first_us = latest_us = 0
    latest: List[int] = []
    for position, after, us in _own_blocks(content):
        end = after
        if us is None:
            continue
        if not packets:
            first_us = us
        if not packets or us > latest_us:
            latest_us, latest = us, []
        if us == latest_us:
            latest.append(position)
        packets += 1
    return end, packets, first_us, latest_us, latest[max(0, len(latest) - most) :]


def between(data: Buffer, from_us: int, to_us: int) -> bytes:
    """Remove the packets outside a time from whole blocks that pcapd wrote.

    Args:
        from_us: The earliest time, microseconds since the epoch.
        to_us: The latest time.

    Raises:
        ValueError: These are not whole blocks that pcapd wrote.
    """
    content = as_bytes(data)
    from_us, to_us = number("from_us", from_us, 0, _I64), number("to_us", to_us, 0, _I64)
    kept: List[bytes] = []
    begin = end = 0
    for position, end, us in _own_blocks(content):
        if us is not None and not from_us <= us <= to_us:
            kept.append(content[begin:position])
            begin = end
    if end != len(content):
        raise ValueError("the last block is incomplete")
    return b"".join([*kept, content[begin:]])


def _own_blocks(content: bytes) -> Iterator[Tuple[int, int, Optional[int]]]:
    """Begin and end of each whole block, and the time of its packet."""
    position = 0
    while position + _HEAD.size <= len(content):
        kind, length = _HEAD.unpack_from(content, position)
        least = PACKET_FRAME if kind == ENHANCED_PACKET else BLOCK_FRAME
        if length % 4 or not least <= length <= BLOCK_MAX:
            raise ValueError("these are not blocks that pcapd wrote")
        if position + length > len(content):
            return
        us = None
        if kind == ENHANCED_PACKET:
            high, low = _TIME.unpack_from(content, position)
            us = high << 32 | low
        yield position, position + length, us
        position += length
