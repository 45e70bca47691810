"""Reads classic pcap files of any program (draft-ietf-opsawg-pcap); files are not trusted."""

from __future__ import annotations

import struct
from typing import BinaryIO, Callable, Final, Iterator, Optional

from pcapd.errors import RecordError
from pcapd.limits import BLOCK_MAX, FILE_READ_SIZE
from pcapd.packet.row import make_row
from pcapd.records import rows as rows_of_records
from pcapd.savefile.blocks import BadFile, FileInterface, FileStatistics
from pcapd.savefile.pcap import FILE_HEADER_SIZE, FileHeader, is_pcap
from pcapd.savefile.reader import Rows, read_rows

__all__ = ["read_any_rows", "read_pcap_rows"]

_RECORD: Final = 16


def read_any_rows(
    file: BinaryIO,
    name: str,
    place: Callable[[FileInterface], int],
    statistics: Optional[Callable[[int, FileStatistics], None]] = None,
) -> Iterator[Rows]:
    """Read the packets of a file, pcapng or pcap, as rows, many at a time.

    Args:
        file: A buffered reader, which has the method ``peek``.
        name: The interface's name if the file contains none.
        place, statistics: See `pcapd.savefile.reader.read_rows`.

    Raises:
        BadFile: The file is neither pcapng nor pcap, or is not valid.
    """
    start = file.peek(4)[:4]  # type: ignore[attr-defined]
    if is_pcap(start):
        return read_pcap_rows(file, name, place)
    if start != b"\n\r\r\n":
        raise BadFile("this is neither pcapng nor pcap")
    return read_rows(file, place, statistics)


def read_pcap_rows(file: BinaryIO, name: str, place: Callable[[FileInterface], int]) -> Iterator[Rows]:
    """Like `read_any_rows`, for a pcap file; an incomplete last record is skipped.

    Raises:
        BadFile: A record is not valid.
    """
    header = FileHeader.parse(file.read(FILE_HEADER_SIZE))
    if header is None:
        raise BadFile("the file ends within its header")
    order, fine = ">" if header.big_endian else "<", 1000 if header.nanoseconds else 1
    link_type = header.link_type
    number = place(FileInterface(name, link_type))
    rest = b""
    while True:
        more = file.read(FILE_READ_SIZE)
        data = rest + more
        end = _end(data, order)
        if end:
            whole = data[:end]
            if (order, fine) == ("<", 1):
                try:
                    rows = rows_of_records(whole, link_type, number)
                except RecordError:  # a time that other programs do not refuse
                    rows = _slow(whole, order, fine, link_type, number)
            else:
                rows = _slow(whole, order, fine, link_type, number)
            yield Rows(rows, whole)
        rest = data[end:]
        if not more:
            return


def _end(data: bytes, order: str) -> int:
    """The position after the last whole record."""
    length_at = struct.Struct(f"{order}8xI4x").unpack_from
    at, last = 0, len(data) - _RECORD
    while at <= last:
        (captured,) = length_at(data, at)
        behind = at + _RECORD + captured
        if behind > len(data):
            if captured > BLOCK_MAX:
                raise BadFile(f"a packet has the invalid length {captured}")
            break
        at = behind
    return at


def _slow(data: bytes, order: str, fine: int, link_type: int, number: int) -> bytes:
    """Make rows of records in another form than that of `pcapd.records`."""
    record = struct.Struct(f"{order}IIII")
    rows, at = [], 0
    while at < len(data):
        seconds, part, captured, original = record.unpack_from(data, at)
        at += _RECORD
        us = seconds * 1_000_000 + part // fine
        rows.append(make_row(link_type, data[at : at + captured], us, original, number, at))
        at += captured
    return b"".join(rows)
