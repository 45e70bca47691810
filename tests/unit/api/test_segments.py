"""Recordings without I/O: segments, one file out of them, and what is kept."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Sequence

import pytest

from pcapd.api.http.recordings import parse_range, parse_time
from pcapd.api.recordings.keeping import Ring
from pcapd.api.recordings.segments import Segment, Segmenter
from pcapd.api.recordings.splice import Stored, Wanted, cut_packets, parts
from pcapd.merge.muxer import Muxer
from pcapd.packet.linktypes import ETHERNET
from pcapd.savefile.form import Form
from pcapd.savefile.reader import read_file
from pcapd.wire import Source, Stats

#: microseconds since the epoch.
BEGIN = 1_700_000_000_000_000
SECOND = 1_000_000
EVERYTHING = Wanted()


def records(*times: int) -> bytes:
    """Records of packets whose data is their time."""
    return b"".join(struct.pack("<4I", *divmod(us, SECOND), 8, 8) + struct.pack("<Q", us) for us in times)


class Recording:
    """Makes the segments of a recording of one or two interfaces."""

    def __init__(self) -> None:
        self.muxer = Muxer(Form.PCAPNG, 96)
        self.segmenter = Segmenter(10**6, 5.0, lambda: self.muxer.closing(BEGIN), BEGIN)
        self.segments: list[Segment] = []

    def open(self, number: int) -> None:
        """Open one more interface."""
        self.muxer.source(number, Source(f"web-{number}", "eth0", ETHERNET, 96, ""), BEGIN)

    def packets(self, number: int, *times: int) -> None:
        """Record packets of an interface."""
        self.muxer.packets(number, records(*times), 0.0)
        self.muxer.stats(number, Stats(len(times), 0, 0, len(times), max(times)))
        self.segmenter.add(self.muxer.finish_pieces(BEGIN), 0.0)

    def cut(self) -> None:
        """End the segment."""
        segment = self.segmenter.finish(BEGIN, 0)
        assert segment is not None
        self.segments.append(segment)

    def stored(self) -> list[Stored]:
        """What the index has of the segments."""
        return [
            Stored(1, one.number, one.first_us, one.last_us, len(one.data), one.header_bytes, one.packets)
            for one in self.segments
        ]

    def file(self, wanted: Wanted = EVERYTHING) -> bytes:
        """One file out of them."""
        data = {one.number: one.data for one in self.segments}
        pieces = [
            (data[part.segment.number][part.start :], part.exact) for part in parts(self.stored(), wanted)
        ]
        return b"".join(piece if exact else cut_packets(piece, wanted) for piece, exact in pieces)


def packets(data: bytes, path: Path) -> list[tuple[str, int]]:
    """Interface and time of each packet of a file."""
    path.write_bytes(data)
    with path.open("rb") as file:
        return [(packet.interface.name, packet.us) for packet in read_file(file)]


@pytest.fixture
def recording() -> Recording:
    """Three segments; the second interface appears in the middle of the second one."""
    made = Recording()
    made.open(1)
    made.packets(1, BEGIN, BEGIN + 1)
    made.cut()
    made.packets(1, BEGIN + 10)
    made.open(2)
    made.packets(2, BEGIN + 11)
    made.cut()
    made.packets(2, BEGIN + 20)
    made.packets(1, BEGIN + 21)
    made.cut()
    return made


ALL = [
    ("web-1:eth0", 0),
    ("web-1:eth0", 1),
    ("web-1:eth0", 10),
    ("web-2:eth0", 11),
    ("web-2:eth0", 20),
    ("web-1:eth0", 21),
]


def after(found: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(name, us - BEGIN) for name, us in found]


def test_each_segment_is_a_whole_file(recording: Recording, tmp_path: Path) -> None:
    """Every segment can be read by itself, with the names of all interfaces."""
    found = [after(packets(one.data, tmp_path / "one")) for one in recording.segments]
    assert found == [ALL[:2], ALL[2:4], ALL[4:]]


def test_one_file_out_of_segments(recording: Recording, tmp_path: Path) -> None:
    """The segments together are one section with each interface once, and every packet once."""
    data = recording.file()
    assert after(packets(data, tmp_path / "all")) == ALL
    assert data.count(b"\n\r\r\n") == 1
    assert data.count(b"web-1:eth0") == data.count(b"web-2:eth0") == 1


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(BEGIN + 1, BEGIN + 20), ALL[1:5]),
        (Wanted(BEGIN + 11), ALL[3:]),
        (Wanted(None, BEGIN + 10), ALL[:3]),
        (Wanted(BEGIN + 20, BEGIN + 20), ALL[4:5]),
    ],
)
def test_a_part_of_the_time(
    recording: Recording, tmp_path: Path, wanted: Wanted, expected: list[tuple[str, int]]
) -> None:
    """Exactly the packets of the wanted time are in the file, which is valid from any segment on."""
    assert after(packets(recording.file(wanted), tmp_path / "part")) == expected


@pytest.mark.parametrize("wanted", [EVERYTHING, Wanted(BEGIN + 10)])
def test_an_interface_between_segments(tmp_path: Path, wanted: Wanted) -> None:
    """An interface that is opened while a segment is empty is described in each file with its packets, once."""
    recording = Recording()
    recording.open(1)
    for number in (1, 2, 3):
        recording.packets(1, BEGIN + 10 * (number - 1))
        recording.cut()
        if number == 1:
            recording.open(2)
            recording.segmenter.add(recording.muxer.take_pieces(0.0), 0.0)
    recording.packets(2, BEGIN + 30)
    recording.cut()
    data = recording.file(wanted)
    assert data.count(b"web-2:eth0") == 1
    assert after(packets(data, tmp_path / "all"))[-2:] == [("web-1:eth0", 20), ("web-2:eth0", 30)]
    for one in recording.segments[1:]:
        assert packets(one.data, tmp_path / "one")


def test_a_segment_is_missing(recording: Recording) -> None:
    """Where a segment is left out, the next one begins a section, because it may need the other's headers."""
    first, _, third = recording.stored()
    assert [part.start for part in parts([first, third], Wanted())] == [0, 0]


def test_statistics_begin_no_segment() -> None:
    """Without packets nothing is stored, until the recording ends."""
    recording = Recording()
    recording.open(1)
    recording.segmenter.add(recording.muxer.statistics_pieces(BEGIN), 0.0)
    assert recording.segmenter.finish(BEGIN, 0) is None
    recording.segmenter.add(recording.muxer.finish_pieces(BEGIN), 0.0, last=True)
    assert recording.segmenter.finish(BEGIN, 0) is not None


@pytest.mark.parametrize("step", [3600 * SECOND, -3600 * SECOND], ids=["ahead", "back"])
def test_a_clock_that_is_set_deletes_nothing(step: int) -> None:
    """The ring measures the age of segments with a steady clock, and that of earlier ones at most once."""
    ring = Ring(60, None)
    ring.restore([Stored(1, 1, BEGIN, BEGIN, 100, 10, 1)], 1000.0, BEGIN + 30 * SECOND)
    assert ring.add(Stored(2, 1, BEGIN + step, BEGIN + step, 100, 10, 1), 1001.0) == []
    assert [one.epoch for one in ring.expired(1031.0)] == [1]


def test_a_new_epoch_is_a_new_section(recording: Recording) -> None:
    """Segments of another epoch begin with their own headers."""
    first, second, third = recording.stored()
    other = Stored(2, 1, third.first_us, third.last_us, third.size, third.header_bytes, third.packets)
    assert [part.start for part in parts([first, second, other], Wanted())] == [0, second.header_bytes, 0]


def test_when_a_segment_ends() -> None:
    """A segment ends when it is full, or old enough and not empty."""
    recording = Recording()
    assert not recording.segmenter.due(100.0)
    recording.open(1)
    recording.packets(1, BEGIN)
    assert not recording.segmenter.due(4.9)
    assert recording.segmenter.due(5.0)


@pytest.mark.parametrize(
    ("keep", "keep_bytes", "kept"),
    [(None, None, [1, 2, 3, 4, 5, 6]), (20, None, [5, 6]), (None, 250, [5, 6]), (1, 50, [6])],
    ids=["everything", "time", "bytes", "the newest always"],
)
def test_what_a_ring_keeps(keep: float | None, keep_bytes: int | None, kept: list[int]) -> None:
    """The oldest segments go as soon as they have no wanted packet, or the bytes are too many."""
    ring = Ring(keep, keep_bytes)
    there: list[int] = []
    for number in range(1, 7):
        first = BEGIN + number * 10 * SECOND
        gone = ring.add(Stored(1, number, first, first + 10 * SECOND, 100, 10, 1), number * 10.0)
        there.append(number)
        there = [one for one in there if one not in {segment.number for segment in gone}]
    assert there == kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=100-", None),
        ("bytes=20-10", None),
        ("bytes=-0", None),
        ("bytes=0-1,5-6", (0, 100)),
        ("lines=1-2", (0, 100)),
    ],
)
def test_ranges(text: str, expected: tuple[int, int] | None) -> None:
    """One range of bytes is understood; one without a byte in the file cannot be satisfied."""
    assert parse_range(text, 100) == expected


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000),
        ("1970-01-01T01:00:01 01:00", SECOND),
    ],
)
def test_times(text: str, us: int) -> None:
    """Times of RFC 3339 are understood, also where a client did not escape the plus sign."""
    assert parse_time(text) == us


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-29", "2026-11-29T03:00:00"])
def test_other_times(text: str) -> None:
    """A time without a time zone is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)
