"""A pcap stream is read as it arrives: however it is cut, the same packets, and little is kept."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, Iterable, Optional

import pytest

from pcapd.packet.row import rows_of
from pcapd.savefile import stream as stream_module
from pcapd.savefile.blocks import BadFile
from pcapd.savefile.classic import read_any_rows
from pcapd.savefile.pcap import FileHeader, file_header
from pcapd.savefile.stream import PcapStream
from tests.kit.unit.savefile import datagram, record

_MAGICS = [("<", 0xA1B2C3D4), (">", 0xA1B2C3D4), ("<", 0xA1B23C4D), (">", 0xA1B23C4D)]
_HEADER = file_header(1, 262144)
_PACKETS = [record(1, b"abc", 3), record(2, b"", 60), record(3, b"d" * 40, 1500), record(4, b"e", 1)]


def fed(stream: PcapStream, pieces: Iterable[bytes]) -> bytes:
    """All batches of some pieces, joined; none of them may be empty."""
    batches = [made.batch for piece in pieces for made in stream.feed(piece)]
    assert all(batches)
    return b"".join(batches)


@pytest.mark.parametrize(("order", "magic"), _MAGICS)
def test_each_form(order: str, magic: int) -> None:
    """The header gives byte order, unit, snaplen and link type; flags and FCS length are not part of the latter."""
    fine = magic == 0xA1B23C4D
    head = struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, 96, 0x2400_0000 | 276)
    packet = struct.pack(f"{order}4I", 5, 7_000 if fine else 7, 3, 9) + b"abc"
    stream = PcapStream()
    assert fed(stream, [head + packet]) == record(5_000_007, b"abc", 9)
    assert stream.header == FileHeader(order == ">", fine, 96, 276)
    assert (stream.packets, stream.position, stream.finish()) == (1, 24 + 19, 0)


@pytest.mark.parametrize("joined", [1, 10, 65536])
def test_all_split_points(joined: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small stream in two, three or single-byte pieces gives the same records, and nothing is left."""
    monkeypatch.setattr(stream_module, "_JOINED", joined)
    data, expected = _HEADER + b"".join(_PACKETS), b"".join(_PACKETS)
    cuts = [(first, second) for first in range(len(data) + 1) for second in range(first, len(data) + 1)]
    splits = [[data[:first], data[first:second], data[second:]] for first, second in cuts]
    for pieces in [*splits, [data[at : at + 1] for at in range(len(data))]]:
        stream = PcapStream(limit=40)
        assert fed(stream, pieces) == expected
        assert (stream.packets, stream.position, stream.finish()) == (4, len(data), 0)


def test_the_end_of_a_stream() -> None:
    """At each length of a stream, the bytes of an incomplete header or packet are known at the end."""
    data = _HEADER + b"".join(_PACKETS)
    ends = [24]
    for packet in _PACKETS:
        ends.append(ends[-1] + len(packet))
    for length in range(len(data) + 1):
        stream = PcapStream()
        fed(stream, [data[:length]])
        whole = max((end for end in ends if end <= length), default=0)
        assert stream.finish() == length - whole
        assert (stream.header is None) == (length < 24)


def test_large_pieces_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a piece that begins within a packet, only a part is joined; small pieces become one batch."""
    monkeypatch.setattr(stream_module, "_JOINED", 100)
    stream, one = PcapStream(), record(1, b"abc", 3)
    assert [made.consumed for made in stream.feed(_HEADER + one[:7])] == []
    assert [made.consumed for made in stream.feed(one[7:] + one * 50 + one[:4])] == [19 * 5, 19 * 46]
    assert [made.consumed for made in stream.feed(one[4:] + one * 2)] == [19 * 3]


def test_batches_have_a_limit() -> None:
    """A piece becomes batches of the given size, each with its facts."""
    found = list(PcapStream(limit=60).feed(_HEADER + b"".join(_PACKETS)))
    assert [made.checked.packets for made in found] == [2, 1, 1]
    assert [made.checked.latest_us for made in found] == [2, 3, 4]


def test_headers_only() -> None:
    """Packets of a known link type are cut after their headers; others are an error."""
    packet = record(1, datagram() + b"payload", 49)
    assert fed(PcapStream(headers_only=True), [_HEADER + packet]) == record(1, datagram(), 49)
    stream = PcapStream(headers_only=True)
    for piece in (file_header(6, 96), packet):
        with pytest.raises(BadFile, match="the headers of link type IEEE802_5 are not supported"):
            fed(stream, [piece])


@pytest.mark.parametrize("cut", [None, 0, 9, 24, 30, 70, 110])
def test_an_invalid_packet(cut: Optional[int]) -> None:
    """All packets before an invalid one are there, and the error says where it is, however the stream is cut."""
    bad = struct.pack("<4I", 1, 0, 101, 101)
    data, batches = _HEADER + b"".join(_PACKETS) + bad, []
    stream = PcapStream(max_captured=100)
    words = (
        f"^packet 5, at byte {len(data) - 16} of the stream: captured length 101 is above the limit of 100$"
    )
    with pytest.raises(BadFile, match=words):
        for piece in [data] if cut is None else [data[:cut], data[cut:]]:
            for made in stream.feed(piece):
                batches.append(made.batch)
    assert b"".join(batches) == b"".join(_PACKETS)
    with pytest.raises(BadFile, match=words):
        fed(stream, [_PACKETS[0]])


@pytest.mark.parametrize(("snaplen", "limit"), [(0, 100), (99, 99), (100, 100), (101, 100)])
def test_the_largest_packet(snaplen: int, limit: int) -> None:
    """A packet is refused above the stream's own limit, and above the snaplen in its header unless that is 0."""
    head = file_header(1, snaplen)
    assert fed(PcapStream(max_captured=100), [head + record(1, bytes(limit), 1500)])
    with pytest.raises(BadFile, match=f"captured length {limit + 1} is above the limit of {limit}$"):
        fed(PcapStream(max_captured=100), [head + record(1, bytes(limit + 1), 1500)])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Welcome to host", "not a classic pcap stream: it begins with b'Welc'"),
        (b"\n\r\r\n", "this is pcapng, and not a classic pcap stream (dumpcap writes the latter with -P)"),
        (_HEADER[:4] + struct.pack("<HH", 2, 3) + _HEADER[8:], "version 2.3 of pcap is not supported"),
        (_HEADER[:4] + struct.pack("<HH", 3, 4) + _HEADER[8:], "version 3.4 of pcap is not supported"),
    ],
)
def test_other_streams(data: bytes, words: str) -> None:
    """What is not classic pcap is refused as soon as that is known."""
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        with pytest.raises(BadFile) as raised:
            fed(PcapStream(), pieces)
        assert words in str(raised.value)


def test_little_is_kept() -> None:
    """Of a stream in tiny pieces no more than one incomplete packet is kept."""
    stream = PcapStream(max_captured=1000)
    fed(stream, [_HEADER])
    data = record(1, bytes(1000), 1000) * 3
    kept = 0
    for at in range(0, len(data), 7):
        fed(stream, [data[at : at + 7]])
        kept = max(kept, stream.finish())
    assert 1000 < kept < 1016


def test_the_stream_of_tcpdump(tmp_path: Path) -> None:
    """What tcpdump writes to a pipe is read like the same file, with nanoseconds and without."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    packets = b"".join(record(us, datagram(), 42) for us in range(10**15, 10**15 + 500))
    (tmp_path / "in.pcap").write_bytes(_HEADER + packets)
    for precision in ("micro", "nano"):
        command = [
            "tcpdump",
            "-r",
            str(tmp_path / "in.pcap"),
            f"--time-stamp-precision={precision}",
            "-w",
            "-",
        ]
        written = subprocess.run(command, capture_output=True, check=True).stdout
        stream = PcapStream()
        found = fed(stream, [written[at : at + 1000] for at in range(0, len(written), 1000)])
        assert (found, stream.finish()) == (packets, 0)
        assert stream.header is not None and stream.header.nanoseconds == (precision == "nano")
        _same_as_the_file(written, found)


def _same_as_the_file(file: bytes, records: bytes) -> None:
    """The reader of whole files finds the same packets."""
    both: list[list[Any]] = [
        [
            (row.us, row.captured, row.original)
            for part in read_any_rows(io.BufferedReader(io.BytesIO(data)), "", lambda _: 0)
            for row in rows_of(part.rows)
        ]
        for data in (file, _HEADER + records)
    ]
    assert both[0] == both[1]
