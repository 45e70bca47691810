"""Time order with bounded hold-back: against a plain sort, and at each of its bounds."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import accumulate
from typing import Iterable, NamedTuple, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.limits import AGENT_SILENCE_TIMEOUT, FRAME_MAX, SNAPLEN_MAX
from pcapd.merge.reorder import Released, ReorderBuffer
from pcapd.records import HEADER_SIZE, check
from pcapd.savefile.form import Form

UNLIMITED = 2**62


class Packet(NamedTuple):
    """A packet whose bytes say which one it is."""

    us: int
    source: int
    number: int

    @property
    def record(self) -> bytes:
        """As in a batch, and as in the output."""
        seconds, micros = divmod(self.us, 1_000_000)
        return struct.pack("<4I2I", seconds, micros, 8, 8, self.source, self.number)


def packets_of(data: bytes) -> list[Packet]:
    """Read packets back from pcap output."""
    found = []
    for seconds, micros, captured, original, source, number in struct.iter_unpack("<4I2I", data):
        assert captured == original == 8
        found.append(Packet(seconds * 1_000_000 + micros, source, number))
    return found


def add(ordering: ReorderBuffer, batch: list[Packet], now: float = 0.0) -> None:
    """Add a batch of one source's packets."""
    records = b"".join(packet.record for packet in batch)
    ordering.add(batch[0].source, records, check(records, SNAPLEN_MAX), now)


class Written:
    """Everything that an ordering has given out, with its own account of it."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.late = 0
        self.counts: Counter[int] = Counter()
        self.full = False

    def take(self, pieces: Iterable[Released]) -> list[Packet]:
        """Collect what is released, and return it."""
        new = []
        for piece in pieces:
            new += packets_of(piece.data)
            self.counts.update(piece.packets)
            self.late += sum(piece.late.values())
            self.full = self.full or piece.full
        self.packets += new
        return new


def late_ones(packets: list[Packet]) -> int:
    """Count the packets that stand behind a newer one, the slow way."""
    newest = accumulate((packet.us for packet in packets), max)
    return sum(packet.us < before for packet, before in zip(packets[1:], newest))


def opened(*sources: int, hold_time: float = 1.0, hold_bytes: int = 2**20) -> ReorderBuffer:
    """An ordering with some sources, writing pcap."""
    ordering = ReorderBuffer(Form.PCAP, hold_time, hold_bytes)
    for number in sources:
        ordering.open(number, number - 1)
    return ordering


def release(ordering: ReorderBuffer, now: float, written: Optional[Written] = None) -> list[Packet]:
    """Take what may go without any limit."""
    return (written or Written()).take(ordering.release(now, UNLIMITED, UNLIMITED))


def heard_and_released(
    ordering: ReorderBuffer, now: float, written: Optional[Written] = None, source: int = 1
) -> list[Packet]:
    """As `release`, after a source that is heard, and promises nothing new."""
    ordering.watermark(source, 0)
    return release(ordering, now, written)


@st.composite
def honest_histories(draw: st.DrawFn) -> tuple[list[Packet], list[tuple[int, list[Packet]]]]:
    """All packets, and batches of them with their sources, as honest agents send them, interleaved."""
    everything: list[Packet] = []
    queues: dict[int, list[list[Packet]]] = {}
    for source in range(1, draw(st.integers(1, 4)) + 1):
        times = sorted(draw(st.lists(st.integers(0, 20_000), max_size=12)))
        packets = [Packet(us, source, number) for number, us in enumerate(times)]
        everything += packets
        size = draw(st.integers(1, 5))
        queues[source] = [packets[at : at + size] for at in range(0, len(packets), size)]
    history = []
    while any(queues.values()):
        source = draw(st.sampled_from([number for number, queue in queues.items() if queue]))
        history.append((source, queues[source].pop(0)))
    return everything, history


@given(honest_histories(), st.data())
def test_honest_sources_come_out_as_if_sorted(
    story: tuple[list[Packet], list[tuple[int, list[Packet]]]], data: st.DataObject
) -> None:
    """Honest sources come out as if sorted, however they are cut, interleaved and released."""
    everything, history = story
    ordering, written = opened(1, 2, 3, 4), Written()
    for at, (source, batch) in enumerate(history):
        add(ordering, batch)
        if data.draw(st.booleans()):
            following = next((later[0].us for who, later in history[at + 1 :] if who == source), 30_000)
            ordering.watermark(source, following)
        if data.draw(st.booleans()):
            release(ordering, 0.0, written)
    written.take(ordering.flush(UNLIMITED, UNLIMITED))
    assert [packet.us for packet in written.packets] == sorted(packet.us for packet in everything)
    assert sorted(written.packets) == sorted(everything)
    for source in range(1, 5):  # packets of one moment keep the order of their arrival
        mine = [packet for packet in written.packets if packet.source == source]
        assert mine == sorted(mine)
    assert written.late == 0 and ordering.pending == 0


moments = st.integers(0, 20_000)
steps = st.lists(
    st.tuples(st.integers(1, 3), st.lists(moments, min_size=1, max_size=6), moments, st.floats(0, 0.7)),
    max_size=10,
)


@given(steps)
def test_whatever_sources_say_nothing_is_lost_and_every_late_packet_is_counted(
    story: list[tuple[int, list[int], int, float]],
) -> None:
    """Times out of order, broken promises and expired waits cost order, never a packet nor its account."""
    ordering, written, sent, now = opened(1, 2, 3, hold_bytes=300), Written(), [], 0.0
    for source, times, watermark, pause in story:
        batch = [Packet(us, source, len(sent) + at) for at, us in enumerate(times)]
        sent += batch
        add(ordering, batch, now)
        ordering.watermark(source, watermark)
        now += pause
        release(ordering, now, written)
    written.take(ordering.flush(UNLIMITED, UNLIMITED))
    assert sorted(written.packets) == sorted(sent)
    assert written.counts == Counter(packet.source for packet in sent)
    assert written.late == late_ones(written.packets)
    assert ordering.pending == 0


def test_a_silent_source_with_watermarks_stalls_nobody() -> None:
    """Packets go as soon as the silent source promises that nothing older follows, and not before."""
    ordering = opened(1, 2)
    packet = Packet(5_000, 1, 0)
    add(ordering, [packet])
    ordering.watermark(1, 9_000)
    ordering.watermark(2, 4_999)
    assert release(ordering, 0.0) == []
    ordering.watermark(2, 5_000)
    assert release(ordering, 0.0) == [packet]


def test_a_source_without_watermarks_holds_back_for_the_hold_time_only() -> None:
    """A packet waits for a mute source until its hold time is over, then it goes."""
    ordering = opened(1, 2, hold_time=1.0)
    packet = Packet(5_000, 1, 0)
    add(ordering, [packet], now=10.0)
    assert heard_and_released(ordering, 10.5) == []
    assert heard_and_released(ordering, 10.99) == []
    assert heard_and_released(ordering, 11.0) == [packet]


@pytest.mark.parametrize(("looks", "turn"), [(60, 0.05), (38, 0.25), (3, 600.0)])
def test_while_nothing_arrives_nothing_is_given_up(looks: int, turn: float) -> None:
    """While all sources are silent, or we do not run, packets wait, and are in order with what comes later."""
    ordering, written, now = opened(1, 2, hold_time=1.0), Written(), 10.0
    add(ordering, [Packet(5_000, 1, 0)], now)
    for _ in range(looks):
        now += turn
        assert release(ordering, now, written) == []
    add(ordering, [Packet(9_000, 1, 1)], now)
    ordering.watermark(1, 9_500)
    assert release(ordering, now, written) == []
    add(ordering, [Packet(3_000, 2, 0), Packet(8_000, 2, 1)], now + 0.1)
    ordering.watermark(2, 9_500)
    release(ordering, now + 0.1, written)
    assert [packet.us for packet in written.packets] == [3_000, 5_000, 8_000, 9_000]
    assert written.late == 0


def test_when_nothing_arrives_for_long_it_goes() -> None:
    """Packets older than AGENT_SILENCE_TIMEOUT without any arrival are released."""
    ordering, written, now = opened(1, 2, hold_time=1.0), Written(), 10.0
    add(ordering, [Packet(5_000, 1, 0)], now)
    while not written.packets:
        now += 0.25
        release(ordering, now, written)
    assert AGENT_SILENCE_TIMEOUT < now - 10.0 < AGENT_SILENCE_TIMEOUT + 1.5


def test_a_pause_of_ours_is_not_held_against_the_sources() -> None:
    """After a pause of ten seconds of our own, packets still wait for the watermarks under way."""
    ordering = opened(1, 2, hold_time=1.0)
    first, second = Packet(5_000, 1, 0), Packet(3_000, 2, 0)
    add(ordering, [first], now=10.0)
    assert release(ordering, 20.0) == []
    add(ordering, [second], now=20.1)
    ordering.watermark(1, 8_000)
    ordering.watermark(2, 8_000)
    assert release(ordering, 20.1) == [second, first]


def test_only_what_has_waited_too_long_goes_early() -> None:
    """When one batch's hold time is over, younger batches go on waiting."""
    ordering = opened(1, 2, hold_time=1.0)
    old, young = Packet(5_000, 1, 0), Packet(9_000, 1, 1)
    add(ordering, [old], now=10.0)
    add(ordering, [young], now=10.5)
    assert heard_and_released(ordering, 11.0) == [old]
    assert heard_and_released(ordering, 11.5) == [young]


def test_what_has_waited_too_long_and_may_go_anyway_holds_nothing_back() -> None:
    """The watermarks have passed all of it, so all of it goes, the younger batches too."""
    ordering = opened(1, hold_time=1.0)
    packets = [Packet(us, 1, number) for number, us in enumerate((3_000, 4_000, 5_000))]
    for packet, now in zip(packets, (10.0, 10.5, 11.0)):
        add(ordering, [packet], now)
    ordering.watermark(1, 6_000)
    assert release(ordering, 11.0) == packets


def test_a_mute_source_holds_back_bounded_bytes() -> None:
    """Data that waits for a mute source stays below the bound on bytes, and leaves in order."""
    size = HEADER_SIZE + 8
    ordering, written = opened(1, 2, hold_bytes=10 * size), Written()
    for number in range(100):
        add(ordering, [Packet(number, 1, number)])
        release(ordering, 0.0, written)
        assert ordering.pending <= 10 * size
    assert [packet.number for packet in written.packets] == list(range(len(written.packets)))


def test_a_watermark_does_not_go_back() -> None:
    """A promise that was given stands, whatever comes behind it."""
    ordering = opened(1, 2)
    packet = Packet(5_000, 1, 0)
    add(ordering, [packet])
    ordering.watermark(1, 6_000)
    ordering.watermark(2, 6_000)
    ordering.watermark(2, 10)
    assert release(ordering, 0.0) == [packet]


def test_a_closed_source_is_not_waited_for() -> None:
    """A closed source's packets still count, and no more are waited for."""
    ordering = opened(1, 2)
    first, second = Packet(5_000, 1, 0), Packet(4_000, 2, 0)
    add(ordering, [first])
    add(ordering, [second])
    ordering.watermark(1, 5_000)
    ordering.close(2)
    assert release(ordering, 0.0) == [second, first]


def test_a_late_packet_goes_at_once_and_is_counted_for_its_source() -> None:
    """A packet behind a newer one is written at once, and counted as late once."""
    ordering = opened(1, 2, hold_time=1.0)
    add(ordering, [Packet(5_000, 1, 0)], now=0.0)
    heard_and_released(ordering, 0.5)
    assert heard_and_released(ordering, 1.0) != []
    late, right = Packet(3_000, 2, 0), Packet(7_000, 2, 1)
    add(ordering, [late, right], now=1.0)
    ordering.watermark(1, 8_000)
    ordering.watermark(2, 8_000)
    (piece,) = ordering.release(1.0, UNLIMITED, UNLIMITED)
    assert packets_of(piece.data) == [late, right]
    assert (piece.packets, piece.late) == ({2: 2}, {2: 1})


@given(st.lists(st.tuples(moments, st.integers(1, 3)), max_size=20), st.integers(0, 25))
def test_a_limit_of_packets_is_exact(entries: list[tuple[int, int]], limit: int) -> None:
    """Exactly so many of the earliest packets go, and it is said whether any stayed."""
    sent = [Packet(us, source, at) for at, (us, source) in enumerate(entries)]
    ordering, written = opened(1, 2, 3), Written()
    for packet in sent:
        add(ordering, [packet])
    written.take(ordering.flush(limit, UNLIMITED))
    assert [packet.us for packet in written.packets] == sorted(packet.us for packet in sent)[:limit]
    assert written.full == (len(sent) > limit)


@given(st.lists(st.tuples(moments, st.integers(1, 3)), max_size=20), st.integers(0, 600))
def test_a_limit_of_bytes_is_exact(entries: list[tuple[int, int]], limit: int) -> None:
    """A limit of bytes takes as many whole records as fit, and reports whether any stayed."""
    sent = [Packet(us, source, at) for at, (us, source) in enumerate(entries)]
    ordering, written = opened(1, 2, 3), Written()
    for packet in sent:
        add(ordering, [packet])
    written.take(ordering.flush(UNLIMITED, limit))
    fitting = limit // (HEADER_SIZE + 8)
    assert [packet.us for packet in written.packets] == sorted(packet.us for packet in sent)[:fitting]
    assert written.full == (len(sent) > fitting)


@pytest.mark.parametrize("limit", [FRAME_MAX, 2 * FRAME_MAX, 5 * FRAME_MAX // 2])
def test_a_limit_of_bytes_is_exact_across_pieces(limit: int) -> None:
    """A limit of bytes holds across several pieces."""
    payload = bytes(1000)
    record = struct.pack("<4I", 1, 0, len(payload), len(payload)) + payload
    batch = record * (3 * FRAME_MAX // len(record))
    ordering = opened(1, hold_bytes=2**30)
    ordering.add(1, batch, check(batch, SNAPLEN_MAX), 0.0)
    pieces = list(ordering.flush(UNLIMITED, limit))
    assert sum(len(piece.data) for piece in pieces) == limit // len(record) * len(record)
    assert [piece.full for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_small_packet_does_not_jump_a_limit_of_bytes() -> None:
    """After a packet that did not fit, none of a later piece is written, although it would fit."""
    payload = bytes(1000)
    large = struct.pack("<4I", 1, 0, len(payload), len(payload)) + payload
    small = struct.pack("<4I", 2, 0, 0, 0)
    batch = large * (FRAME_MAX // len(large) + 1)
    ordering = opened(1, hold_bytes=2**30)
    for records in (batch, small):
        ordering.add(1, records, check(records, SNAPLEN_MAX), 0.0)
    (piece,) = ordering.flush(UNLIMITED, 3 * len(large) + len(small))
    assert (piece.data, piece.full) == (3 * large, True)


def test_a_large_batch_waits_for_the_watermark_too() -> None:
    """A batch of several pieces waits for the watermark like a small one."""
    record = struct.pack("<4I", 1, 0, 1000, 1000) + bytes(1000)
    batch = record * (FRAME_MAX // len(record) + 1)
    ordering = opened(1, 2, hold_bytes=2**30)
    ordering.add(1, batch, check(batch, SNAPLEN_MAX), 0.0)
    ordering.watermark(1, 2_000_000)
    ordering.watermark(2, 999_999)
    assert list(ordering.release(0.0, UNLIMITED, UNLIMITED)) == []
    ordering.watermark(2, 1_000_000)
    assert [piece.data for piece in ordering.release(0.0, UNLIMITED, UNLIMITED)] == [batch]


def test_small_batches_leave_in_one_piece() -> None:
    """Small batches are merged together in one call."""
    ordering = opened(1, 2)
    packets = [Packet(us, 1 + us % 2, us) for us in range(10)]
    for packet in packets:
        add(ordering, [packet])
    (piece,) = ordering.flush(UNLIMITED, UNLIMITED)
    assert packets_of(piece.data) == packets


def test_large_holdings_leave_completely() -> None:
    """More than one piece can hold goes out in one release, nothing missing."""
    payload = bytes(1000)
    record = struct.pack("<4I", 1, 0, len(payload), len(payload)) + payload
    batch = record * (FRAME_MAX // len(record))
    ordering = opened(1, hold_bytes=2**30)
    for _ in range(3):
        ordering.add(1, batch, check(batch, SNAPLEN_MAX), 0.0)
    ordering.watermark(1, 2_000_000)
    pieces = list(ordering.release(0.0, UNLIMITED, UNLIMITED))
    assert b"".join(piece.data for piece in pieces) == 3 * batch
    assert not any(piece.full for piece in pieces)


def test_who_is_expected_is_waited_for() -> None:
    """Packets of the first source wait until the others are open, and their older packets are there."""
    ordering, written = ReorderBuffer(Form.PCAP), Written()
    ordering.open(0, 0)
    ordering.expect(True)
    add(ordering, [Packet(5_000, 0, 0)])
    ordering.watermark(0, 9_000)
    assert written.take(ordering.release(0.5, UNLIMITED, UNLIMITED)) == []
    ordering.open(1, 1)
    ordering.expect(False)
    add(ordering, [Packet(4_000, 1, 0)], 0.6)
    ordering.watermark(1, 9_000)
    assert written.take(ordering.release(0.6, UNLIMITED, UNLIMITED)) == [
        Packet(4_000, 1, 0),
        Packet(5_000, 0, 0),
    ]
    assert written.late == 0


def test_what_went_long_ago_does_not_end_the_waiting() -> None:
    """An instance that is expected later is waited for as long as any other."""
    ordering = opened(1, hold_time=1.0)
    add(ordering, [Packet(5_000, 1, 0)])
    ordering.watermark(1, 9_000)
    assert release(ordering, 0.1) != []
    for now in (0.5, 0.9, 1.3):
        assert release(ordering, now) == []
    ordering.expect(True)
    add(ordering, [Packet(20_000, 1, 1)], 1.3)
    ordering.watermark(1, 30_000)
    for now in (1.4, 1.5):
        assert release(ordering, now) == []
    assert ordering.pending > 0


def test_who_is_expected_for_too_long_is_waited_for_once() -> None:
    """The hold-back's time bounds it, and a second straggler does not hold up everything again."""
    ordering, written = ReorderBuffer(Form.PCAP, hold_time=1.0), Written()
    ordering.open(0, 0)
    ordering.expect(True)
    add(ordering, [Packet(5_000, 0, 0)])
    ordering.watermark(0, 9_000)
    for now in (0.4, 0.8):
        assert heard_and_released(ordering, now, written, source=0) == []
    assert heard_and_released(ordering, 1.2, written, source=0) == [Packet(5_000, 0, 0)]
    ordering.expect(True)
    add(ordering, [Packet(8_000, 0, 1)], 1.2)
    assert written.take(ordering.release(1.2, UNLIMITED, UNLIMITED)) == [Packet(8_000, 0, 1)]
