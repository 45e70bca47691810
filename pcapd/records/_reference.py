"""The functions of `pcapd.records` in plain Python.

This file says what must come out; ``_native.c`` says it faster.  The property
tests hold the two together, so a change here is a change there.
"""

from __future__ import annotations

import operator
import struct
from typing import TYPE_CHECKING, Any, Final, Iterator, NamedTuple, Sequence, Tuple, Union

from pcapd.errors import RecordError
from pcapd.records._headers import LINK_TYPES, header_length
from pcapd.records._types import CAPTURED_MAX, HEADER_SIZE, MICROS, Checked, Form, Gap, Merged, Rendered

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: seconds, microseconds, captured length, original length.
_HEADER: Final = struct.Struct("<4I")
#: seconds, microseconds, offset, captured length; pcapy-ng writes them as the machine does.
_META: Final = struct.Struct("=4I")
#: type, total length, interface, timestamp high and low, captured length, original length.
_PACKET_BLOCK: Final = struct.Struct("<7I")
_PACKET_BLOCK_TYPE: Final = 6
#: bytes of a packet block around its padded data.
_PACKET_BLOCK_FRAME: Final = _PACKET_BLOCK.size + 4
_LENGTH: Final = struct.Struct("<I")

#: epb_dropcount, 8 bytes, and the end of the options.
_DROP_COUNT: Final = struct.Struct("<HHQI")
_DROP_COUNT_CODE: Final = 4

_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_U32: Final = 0xFFFF_FFFF
_I64: Final = 0x7FFF_FFFF_FFFF_FFFF


#: Interface and batches, and gaps where there are some.
Source = Union[Tuple[int, Sequence["Buffer"]], Tuple[int, Sequence["Buffer"], Sequence[Gap]]]


class _Record(NamedTuple):
    us: int
    #: Position among all records of a call, which is the order of arrival.
    serial: int
    source: int
    original: int
    #: Header and captured bytes.
    data: bytes


def pack(packets: Buffer, meta: Buffer, snaplen: int, limit: int, headers_of: int = -1) -> list[bytes]:
    """Turn one result of pcapy-ng's ``next_batch`` into batches of records.

    Args:
        packets: The captured bytes of all packets.
        meta: Per packet four u32 in the machine's byte order: seconds,
            microseconds, offset into ``packets``, captured length.
        snaplen: bytes; longer packets are cut, their original length is kept.
        limit: bytes of one batch; exceeded only by a record that is longer alone.
        headers_of: LINKTYPE of packets of which nothing is kept but headers, see
            `pcapd.records._headers`; -1 when they are not cut so.

    Raises:
        ValueError: ``meta`` points outside ``packets``, a number is out of range, or
            the headers of that link type are not known.
    """
    content, entries = _bytes(packets), _bytes(meta)
    snaplen = _number("snaplen", snaplen, 0, _U32)
    limit = _number("limit", limit, 0, _I64)
    headers_of = _number("headers_of", headers_of, -1, _U32)
    if headers_of not in (-1, *LINK_TYPES):
        raise ValueError(f"the headers of link type {headers_of} are not known")
    if len(entries) % _META.size:
        raise ValueError(f"meta has {len(entries)} bytes, which is no multiple of 16")

    batches: list[bytes] = []
    batch = bytearray()
    for index, (seconds, micros, offset, length) in enumerate(_META.iter_unpack(entries)):
        if offset + length > len(content):
            raise ValueError(
                f"meta entry {index}: {length} bytes at {offset} are not within {len(content)} bytes"
            )
        kept = length
        if headers_of >= 0:
            kept = header_length(headers_of, content[offset : offset + length])
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
    """Walk a batch that came from a peer, and count what is in it.

    Args:
        records: The batch; nothing in it is believed.
        max_captured: bytes that one packet may have.

    Raises:
        RecordError: A record is cut short or lies, or there is none at all.  The
            message names the byte at which that record begins.
        ValueError: ``max_captured`` is out of range.
    """
    content = _bytes(records)
    max_captured = _number("max_captured", max_captured, 0, CAPTURED_MAX)
    if not content:
        raise RecordError("record at byte 0: there is none")

    packets = captured_bytes = 0
    earliest, latest = _I64, 0
    for us, _, begin, end in _walk(content, max_captured):
        packets += 1
        captured_bytes += end - begin - HEADER_SIZE
        earliest = min(earliest, us)
        latest = max(latest, us)
    return Checked(packets, captured_bytes, earliest, latest)


def render(  # noqa: PLR0917 - the compiled one takes them by position too
    records: Buffer,
    interface: int,
    form: Form,
    max_packets: int,
    max_bytes: int,
    gaps: Sequence[Gap] = (),
) -> Rendered:
    """Write a batch as part of a file, in the batch's own order.

    Args:
        records: The batch.
        interface: Number of the interface block that the packets belong to (pcapng).
        form: Of the output.
        max_packets: Packets to write at most.
        max_bytes: bytes of output at most.
        gaps: What the source lost, in order of time; classic pcap has no place for it.

    Raises:
        RecordError: A record before the one at which the limits stop is cut short or lies.
        ValueError: A number is out of range.
    """
    content = _bytes(records)
    interface = _number("interface", interface, 0, _U32)
    form = Form(_number("form", form, Form.PCAP, Form.PCAPNG))
    max_packets = _number("max_packets", max_packets, 0, _I64)
    max_bytes = _number("max_bytes", max_bytes, 0, _I64)
    lost = _gaps(gaps)

    pieces: list[bytes] = []
    size = told = 0
    if max_packets:
        for us, original, begin, end in _walk(content, CAPTURED_MAX):
            drops, next_gap = _drops_before(lost, us, told)
            piece = _written(form, interface, us, original, content[begin:end], drops)
            if size + len(piece) > max_bytes:
                break
            size += len(piece)
            told = next_gap
            pieces.append(piece)
            if len(pieces) == max_packets:
                break
    return Rendered(b"".join(pieces), len(pieces), told)


def merge(  # noqa: PLR0917 - the compiled one takes them by position too
    sources: Sequence[Source],
    until_us: int,
    last_us: int,
    form: Form,
    max_packets: int,
    max_bytes: int,
) -> Merged:
    """Write the records of several sources as part of a file, in time order.

    Records of the same microsecond keep the order of the sources, and within
    one source the order of arrival.

    Args:
        sources: Per source the number of its interface block (pcapng), and its
            batches in their order of arrival.  Neither has to be in time order;
            the closer it is, the faster this runs.  Keep batches whose
            ``Checked.earliest_us`` is after ``until_us`` out of the call: they
            would be walked and copied for nothing.  Where it has a third element, that
            are the source's gaps in order of time; classic pcap has no place for them.
        until_us: microseconds since the epoch; later records are left in ``rests``.
        last_us: microseconds since the epoch; the ``last_us`` of the call before.
        form: Of the output.
        max_packets: Packets to write at most.
        max_bytes: bytes of output at most.  Less than one packet needs writes
            nothing, again and again.

    Raises:
        RecordError: A record of any source is cut short or lies.
        ValueError: A number is out of range.
    """
    pending = [_source(*source) for source in sources]
    interfaces = [_number("interface", interface, 0, _U32) for interface, _, _ in pending]
    until_us = _number("until_us", until_us, -_I64 - 1, _I64)
    last_us = _number("last_us", last_us, -_I64 - 1, _I64)
    form = Form(_number("form", form, Form.PCAP, Form.PCAPNG))
    max_packets = _number("max_packets", max_packets, 0, _I64)
    max_bytes = _number("max_bytes", max_bytes, 0, _I64)

    records = _gather([chunks for _, chunks, _ in pending])
    due = [record for record in records if record.us <= until_us]
    due.sort(key=operator.attrgetter("us"))

    pieces: list[bytes] = []
    size = 0
    packets, late, told = ([0] * len(interfaces) for _ in range(3))
    written = bytearray(len(records))
    for us, serial, source, original, data in due[:max_packets]:
        drops, next_gap = _drops_before(pending[source][2], us, told[source])
        piece = _written(form, interfaces[source], us, original, data, drops)
        if size + len(piece) > max_bytes:
            break
        size += len(piece)
        told[source] = next_gap
        pieces.append(piece)
        packets[source] += 1
        late[source] += us < last_us
        written[serial] = True

    rests: list[list[bytes]] = [[] for _ in interfaces]
    for record in records:
        if not written[record.serial]:
            rests[record.source].append(record.data)
    return Merged(
        data=b"".join(pieces),
        packets=tuple(packets),
        late=tuple(late),
        rests=[b"".join(rest) for rest in rests],
        last_us=max(last_us, due[len(pieces) - 1].us) if pieces else last_us,
        full=len(pieces) < len(due),
        told=tuple(told),
    )


def _source(
    interface: int, chunks: Sequence[Buffer], gaps: Sequence[Gap] = ()
) -> tuple[int, list[bytes], list[Gap]]:
    return interface, [_bytes(chunk) for chunk in chunks], _gaps(gaps)


def _gaps(gaps: Sequence[Gap]) -> list[Gap]:
    return [
        (_number("after_us", after_us, -_I64 - 1, _I64), _number("drops", drops, 0, _I64))
        for after_us, drops in gaps
    ]


def _drops_before(gaps: Sequence[Gap], us: int, told: int) -> tuple[int, int]:
    """What was lost before a record, and how many gaps are told when it is written."""
    drops = 0
    while told < len(gaps) and us > gaps[told][0]:
        drops += gaps[told][1]
        told += 1
    return min(drops, _U64), told


def _gather(sources: Sequence[Sequence[bytes]]) -> list[_Record]:
    records: list[_Record] = []
    for source, chunks in enumerate(sources):
        for chunk in chunks:
            for us, original, begin, end in _walk(chunk, CAPTURED_MAX):
                records.append(_Record(us, len(records), source, original, chunk[begin:end]))
    return records


def _walk(content: bytes, max_captured: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield timestamp (µs), original length, begin and end of each record, or raise RecordError."""
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


def _written(  # noqa: PLR0917 - the order of the block
    form: Form, interface: int, us: int, original: int, record: bytes, drops: int
) -> bytes:
    if form is Form.PCAP:
        return record
    captured = len(record) - HEADER_SIZE
    padding = -captured & 3
    options = _DROP_COUNT.pack(_DROP_COUNT_CODE, 8, drops, 0) if drops else b""
    total = _PACKET_BLOCK_FRAME + captured + padding + len(options)
    start = _PACKET_BLOCK.pack(_PACKET_BLOCK_TYPE, total, interface, us >> 32, us & _U32, captured, original)
    return b"".join((start, record[HEADER_SIZE:], bytes(padding), options, _LENGTH.pack(total)))


def _bytes(value: Buffer) -> bytes:
    return value if isinstance(value, bytes) else bytes(memoryview(value))


def _number(name: str, value: Any, low: int, high: int) -> int:
    number = operator.index(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be within {low} and {high}")
    return number


def keep_memory() -> None:
    """Let this process keep memory that it frees, up to some 64 MiB: faster for large batches.

    Only the compiled implementation can tell the allocator; here it does nothing.
    """
