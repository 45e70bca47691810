"""The functions of `pcapd.records` in plain Python.

This file defines the results; ``_native.c`` computes them faster.  Property tests
compare the two, so a change here needs the same change there.
"""

from __future__ import annotations

import operator
import struct
from typing import TYPE_CHECKING, Any, Final, Iterator

from pcapd.errors import RecordError
from pcapd.packet.headers import LINKS, walk
from pcapd.packet.row import make_row
from pcapd.records._types import CAPTURED_MAX, HEADER_SIZE, MICROS, SHIFT_MAX, Checked

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: seconds, microseconds, captured length, original length.
_HEADER: Final = struct.Struct("<4I")
#: seconds, microseconds, offset, captured length; pcapy-ng uses the machine's byte order.
_META: Final = struct.Struct("=4I")
_U32: Final = 0xFFFF_FFFF
_I64: Final = 0x7FFF_FFFF_FFFF_FFFF


def pack(packets: Buffer, meta: Buffer, snaplen: int, limit: int, headers_of: int = -1) -> list[bytes]:
    """Turn one result of pcapy-ng's ``next_batch`` into batches of records.

    Args:
        packets: The captured bytes of all packets.
        meta: Per packet four u32 in the machine's byte order: seconds,
            microseconds, offset into ``packets``, captured length.
        snaplen: bytes; longer packets are cut, and their original length is kept.
        limit: largest size of one batch in bytes, unless a single record is larger.
        headers_of: LINKTYPE of the packets, to cut them after their headers (see
            `pcapd.packet.headers`); -1 to keep them.

    Raises:
        ValueError: ``meta`` points outside ``packets``, a number is out of range, or
            the headers of that link type are not known.
    """
    content, entries = as_bytes(packets), as_bytes(meta)
    snaplen = number("snaplen", snaplen, 0, _U32)
    limit = number("limit", limit, 0, _I64)
    headers_of = number("headers_of", headers_of, -1, _U32)
    if headers_of not in (-1, *LINKS):
        raise ValueError(f"the headers of link type {headers_of} are not known")
    if len(entries) % _META.size:
        raise ValueError(f"meta has {len(entries)} bytes, which is not a multiple of 16")

    batches: list[bytes] = []
    batch = bytearray()
    for index, (seconds, micros, offset, length) in enumerate(_META.iter_unpack(entries)):
        if offset + length > len(content):
            raise ValueError(
                f"meta entry {index}: {length} bytes at {offset} are not within {len(content)} bytes"
            )
        kept = length
        if headers_of >= 0:
            kept = walk(headers_of, content[offset : offset + length]).end
        captured = min(kept, snaplen)
        if batch and len(batch) + HEADER_SIZE + captured > limit:
            batches.append(bytes(batch))
            batch.clear()
        batch += _HEADER.pack(seconds, micros, captured, length)
        batch += content[offset : offset + captured]
    if batch:
        batches.append(bytes(batch))
    return batches


def check(records: Buffer, max_captured: int) -> Checked:
    """Check a batch from a peer, and count its packets.

    Args:
        records: The batch, which is not trusted.
        max_captured: largest allowed captured length of a packet in bytes.

    Raises:
        RecordError: A record is incomplete or not valid, or there is none.  The
            message contains the position of this record in bytes.
        ValueError: ``max_captured`` is out of range.
    """
    content = as_bytes(records)
    max_captured = number("max_captured", max_captured, 0, CAPTURED_MAX)
    if not content:
        raise RecordError("record at byte 0: there is none")

    packets = captured_bytes = 0
    earliest, latest = _I64, 0
    for us, _, begin, end in walk_records(content, max_captured):
        packets += 1
        captured_bytes += end - begin - HEADER_SIZE
        earliest = min(earliest, us)
        latest = max(latest, us)
    return Checked(packets, captured_bytes, earliest, latest)


def rows(records: Buffer, link_type: int, interface: int) -> bytes:
    """Make a row for each packet of a batch, see `pcapd.packet.row`.

    Args:
        records: The batch.
        link_type: LINKTYPE of the packets.
        interface: The number of the packets' interface.

    Raises:
        RecordError: A record is incomplete or not valid.
        ValueError: A number is out of range, or the batch has 4 GiB or more.
    """
    content = as_bytes(records)
    link_type = number("link_type", link_type, 0, _U32)
    interface = number("interface", interface, 0, _U32)
    if len(content) > _U32:
        raise ValueError("a batch of 4 GiB or more has no rows")
    made = []
    for us, original, begin, end in walk_records(content, CAPTURED_MAX):
        at = begin + HEADER_SIZE
        made.append(make_row(link_type, content[at:end], us, original, interface, at))
    return b"".join(made)


def shift(records: Buffer, us: int) -> bytes:
    """Change the times of a batch.

    Args:
        records: The batch.
        us: Microseconds to add to each time, at most `SHIFT_MAX`; times are limited to 0 and
            to the maximum of 32 bits.

    Raises:
        RecordError: A record is incomplete or not valid.
        ValueError: ``us`` is out of range.
    """
    content = as_bytes(records)
    us = number("us", us, -SHIFT_MAX, SHIFT_MAX)
    made = []
    for old, original, begin, end in walk_records(content, CAPTURED_MAX):
        new = min(max(0, old + us), _U32 * MICROS + MICROS - 1)
        made.append(_HEADER.pack(new // MICROS, new % MICROS, end - begin - HEADER_SIZE, original))
        made.append(content[begin + HEADER_SIZE : end])
    return b"".join(made)


def walk_records(content: bytes, max_captured: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield time (µs), original length, begin and end of each record; raise RecordError for a bad one."""
    begin, size = 0, len(content)
    unpack = _HEADER.unpack_from
    while begin < size:
        if size - begin < HEADER_SIZE:
            raise RecordError(f"record at byte {begin}: {size - begin} bytes are too few for its header")
        seconds, micros, captured, original = unpack(content, begin)
        end = begin + HEADER_SIZE + captured
        if micros >= MICROS or captured > max_captured or captured > original or end > size:
            raise RecordError(f"record at byte {begin}: {_lie(micros, captured, original, max_captured)}")
        yield seconds * MICROS + micros, original, begin, end
        begin = end


def _lie(micros: int, captured: int, original: int, max_captured: int) -> str:
    if micros >= MICROS:
        return f"{micros} microseconds are a second or more"
    if captured > max_captured:
        return f"captured length {captured} is above the limit of {max_captured}"
    if captured > original:
        return f"captured length {captured} is above the original length {original}"
    return f"captured length {captured} runs beyond the end"


def as_bytes(value: Buffer) -> bytes:
    return value if isinstance(value, bytes) else bytes(memoryview(value))


def number(name: str, value: Any, low: int, high: int) -> int:
    index = operator.index(value)
    if not low <= index <= high:
        raise ValueError(f"{name} must be within {low} and {high}")
    return index


def keep_memory() -> None:
    """Make this process keep up to about 64 MiB of freed memory, which is faster for large batches.

    Only the compiled implementation can configure the allocator; this one does nothing.
    """
