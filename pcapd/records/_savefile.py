"""Makes batches of the packets in a classic pcap savefile; ``_savefile.h`` does the same in C."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pcapd.packet.headers import LINKS, walk
from pcapd.records._reference import number
from pcapd.records._types import CAPTURED_MAX, HEADER_SIZE, MICROS, Checked, Converted

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["from_savefile"]

_RECORD: Final = struct.Struct("<4I")
_NANOS: Final = 1_000_000_000
_U32: Final = 0xFFFF_FFFF
_I64: Final = 0x7FFF_FFFF_FFFF_FFFF


def from_savefile(
    data: Buffer,
    *,
    big_endian: bool,
    nanoseconds: bool,
    max_captured: int,
    limit: int,
    headers_of: int = -1,
) -> Converted:
    """Make a batch of as many records of a pcap savefile as fit (draft-ietf-opsawg-pcap).

    It stops before the first incomplete or invalid record.  If that is the first one, the
    result is empty or an error is raised, so no record before an invalid one is lost.

    Seconds are unsigned, so all times are from 1970 to 2106.  Nanoseconds are rounded down to
    microseconds, which is what a batch contains.

    Args:
        data: Records of the file, without the file's header; the last one may be incomplete.
        big_endian: The byte order of the record headers.
        nanoseconds: The unit of the second field: nanoseconds instead of microseconds.
        max_captured: largest allowed captured length of a packet in bytes.
        limit: largest size of the batch in bytes, unless a single record is larger.
        headers_of: LINKTYPE of the packets, to cut them after their headers (see
            `pcapd.packet.headers`); -1 to keep them.

    Raises:
        ValueError: The first record is invalid: its captured length is above ``max_captured``
            or above its original length, or its fraction of a second is a second or more.  Or
            a number is out of range, or the headers of that link type are not known.
    """
    view = memoryview(data).cast("B")
    max_captured = number("max_captured", max_captured, 0, CAPTURED_MAX)
    limit = number("limit", limit, 0, _I64)
    headers_of = number("headers_of", headers_of, -1, _U32)
    if headers_of not in (-1, *LINKS):
        raise ValueError(f"the headers of link type {headers_of} are not known")
    unpack = struct.Struct(">4I" if big_endian else "<4I").unpack_from
    parts, fine = (_NANOS, _NANOS // MICROS) if nanoseconds else (MICROS, 1)

    batch = bytearray()
    times: list[int] = []
    at, last = 0, len(view) - HEADER_SIZE
    while at <= last:
        seconds, part, captured, original = unpack(view, at)
        begin = at + HEADER_SIZE
        end = begin + captured
        if part >= parts or captured > max_captured or captured > original:
            if not times:
                raise ValueError(_problem(part, parts, captured, max_captured, original))
            break
        if end > len(view):
            break
        kept = captured if headers_of < 0 else walk(headers_of, bytes(view[begin:end])).end
        if times and len(batch) + HEADER_SIZE + kept > limit:
            break
        batch += _RECORD.pack(seconds, part // fine, kept, original)
        batch += view[begin : begin + kept]
        times.append(seconds * MICROS + part // fine)
        at = end
    content = len(batch) - HEADER_SIZE * len(times)
    checked = Checked(len(times), content, min(times, default=0), max(times, default=0))
    return Converted(bytes(batch), at, checked)


def _problem(part: int, parts: int, captured: int, max_captured: int, original: int) -> str:
    if part >= parts:
        return f"{part} {'nanoseconds' if parts == _NANOS else 'microseconds'} are a second or more"
    if captured > max_captured:
        return f"captured length {captured} is above the limit of {max_captured}"
    return f"captured length {captured} is above the original length {original}"
