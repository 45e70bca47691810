"""The same packet at several places: what is written about it."""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.merge.matching import PacketIds
from pcapd.merge.muxer import Muxer
from pcapd.merge.split import Split
from pcapd.savefile.form import Form
from pcapd.savefile.reader import FilePacket, Reader
from pcapd.wire import Source, Stats
from tests.kit.implementations import implementations
from tests.kit.packets import MACS, ethernet, ipv4, udp

SECOND = 1_000_000
A, B = 1, 2  # digests


# --- matching -------------------------------------------------------------------


def new_matcher(merging: ModuleType, window: float = 2.0, packets: int = 1000) -> Any:
    """One that numbers from 1 on."""
    return merging.Matcher(1, int(window * SECOND), packets)


def test_two_ends(merging: ModuleType) -> None:
    """A packet has one number at both ends, and another packet another one."""
    matcher = new_matcher(merging)
    assert matcher.see(0, 0, A) == (1, False)
    assert matcher.see(0, 1, B) == (2, False)
    assert matcher.see(1, 2, A) == (1, True)
    assert matcher.see(2, 3, A) == (1, True)


def test_a_packet_that_is_sent_again(merging: ModuleType) -> None:
    """A packet that is sent again is another packet, and sightings are paired in their order."""
    matcher = new_matcher(merging)
    numbers = [matcher.see(place, time, A)[0] for time, place in enumerate((0, 0, 1, 1, 1))]
    assert numbers == [1, 2, 1, 2, 3]


def test_many_equal_packets(merging: ModuleType) -> None:
    """A flood of them is told apart as far as it is not too many on the way at once."""
    matcher = new_matcher(merging)
    for number in range(1000):
        assert matcher.see(0, number, A) == (number + 1, False)
        if number >= 100:
            assert matcher.see(1, number, A) == (number - 99, True)


@pytest.mark.parametrize(
    ("gone", "place", "apart"),
    [((4,), 1, 0), ((4,), 1, 1_300_000), ((0, 1, 2), 1, 0), ((0, 1, 2), 1, 1_300_000), ((0, 1, 2), 0, 0)],
)
def test_heartbeats(merging: ModuleType, gone: Tuple[int, ...], place: int, apart: int) -> None:
    """Equal packets, of which one place misses some, are still matched one to one when their delay is known."""
    matcher = new_matcher(merging, 5.0)
    for other in (0, 1):
        matcher.see(other, other * (apart + 100), B)
    seen = [
        (us * 400_000 + other * (apart + 100), us, other)
        for us in range(1, 10)
        for other in (0, 1)
        if other != place or us - 1 not in gone
    ]
    numbers: Dict[int, List[int]] = {}
    for us, beat, other in sorted(seen):
        numbers.setdefault(beat, []).append(matcher.see(other, us, A)[0])
    assert all(len(set(found)) == 1 for found in numbers.values()), numbers
    assert len({found[0] for found in numbers.values()}) == len(numbers)


@pytest.mark.parametrize(("within", "beyond"), [(12 * SECOND, 12 * SECOND + 1), (8 * SECOND, 8 * SECOND - 1)])
def test_the_window(merging: ModuleType, within: int, beyond: int) -> None:
    """Equal packets further apart than the window are different packets, also when the later one has an earlier time."""
    matcher = new_matcher(merging)
    matcher.see(0, 10 * SECOND, A)
    assert matcher.see(1, within, A)[1]
    assert not matcher.see(2, beyond, A)[1]
    assert matcher.forgotten == 0


def test_bounded_memory(merging: ModuleType) -> None:
    """The oldest packets are forgotten at the bound, and counted."""
    matcher = new_matcher(merging, packets=3)
    for number in range(5):
        matcher.see(0, number, number)
    assert matcher.forgotten == 2
    assert not matcher.see(1, 6, 0)[1]
    assert matcher.see(1, 6, 4)[1]


def test_a_packet_that_both_ends_saw_is_not_missed(merging: ModuleType) -> None:
    """A packet that both ends saw has its number at both, and its removal from memory is not a miss."""
    matcher = new_matcher(merging, packets=3)
    for number in range(9):
        matcher.see(0, number, number)
        matcher.see(1, number, number)
    assert matcher.forgotten == 0


@given(
    sightings=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6 * SECOND), st.integers(0, 5)), max_size=60
    ),
    limit=st.integers(1, 8),
)
def test_numbers_are_never_wrong(sightings: List[Tuple[int, int, int]], limit: int) -> None:
    """Each number belongs to one content, and occurs once per place."""
    for merging in implementations("merge"):
        matcher = new_matcher(merging, packets=limit)
        content_of: Dict[int, int] = {}
        seen = set()
        for place, us, content in sightings:
            number, again = matcher.see(place, us, content)
            assert again == (number in content_of)
            assert content_of.setdefault(number, content) == content
            assert (place, number) not in seen
            seen.add((place, number))


# --- in files --------------------------------------------------------------------


def record(us: int, packet: bytes) -> bytes:
    return struct.pack("<4I", us // SECOND, us % SECOND, len(packet), len(packet)) + packet


def packets_of(data: bytes) -> List[FilePacket]:
    return list(Reader().packets(data))


def both_ends(assembly: Muxer, count: int, *, lost: Tuple[int, ...] = ()) -> bytes:
    """Packets 0, 1, 2… at a, and a millisecond later at b, except the lost ones."""
    for number, name in ((1, "a"), (2, "b")):
        assembly.source(number, Source(name, "eth0", 1, 262144, ""), 5)
    data = b""
    for index in range(count):
        packet = ethernet(ipv4(udp(b"packet %d" % index)))
        assembly.packets(1, record(index * 10_000, packet), 0.0)
        if index not in lost:
            assembly.packets(2, record(index * 10_000 + 1000, packet), 0.0)
        data += b"".join(assembly.take(0.0))
    return data + b"".join(assembly.finish(10))


@pytest.mark.parametrize("ordered", [True, False])
def test_numbers_in_a_file(ordered: bool) -> None:
    """Equal at both ends; a packet that was lost has its own; what is no IP has none."""
    ids = PacketIds(dedupe=False, first=100)
    assembly = Muxer(Form.PCAPNG, 262144, ordered=ordered, packet_ids=ids)
    assembly.source(9, Source("c", "eth0", 1, 262144, ""), 5)
    assembly.packets(9, record(1, MACS + b"\x08\x06" + bytes(28)), 0.0)
    found = packets_of(both_ends(assembly, 5, lost=(2,)))
    numbers: Dict[str, List[Optional[int]]] = {}
    for packet in found:
        numbers.setdefault(packet.interface.name[0], []).append(packet.packet_id)
    assert numbers == {"a": [100, 101, 102, 103, 104], "b": [100, 101, 103, 104], "c": [None]}
    assert [packet.data[-8:] for packet in found if packet.packet_id == 104] == [b"packet 4"] * 2


def test_without_the_option_nothing_changes() -> None:
    """Without the option blocks have no options."""
    assert {packet.packet_id for packet in packets_of(both_ends(Muxer(Form.PCAPNG, 262144), 3))} == {None}


@pytest.mark.parametrize("ordered", [True, False])
def test_duplicates_are_counted(ordered: bool) -> None:
    """The first of duplicates stays, and the counters of file and report include the others."""
    assembly = Muxer(Form.PCAPNG, 262144, ordered=ordered, packet_ids=PacketIds(dedupe=True))
    data = both_ends(assembly, 5, lost=(2,))
    assert [packet.interface.name for packet in packets_of(data)] == ["a:eth0"] * 5
    a, b = assembly.accounts.values()
    assert (a.received, a.written, a.duplicates) == (5, 5, 0)
    assert (b.received, b.written, b.duplicates) == (4, 0, 4)
    assert not assembly.full


@pytest.mark.parametrize("dedupe", [True, False])
@pytest.mark.parametrize("limit", [3, 4, 7])
def test_a_count_is_of_packets_in_the_file(dedupe: bool, limit: int) -> None:
    """A count counts packets in the file, without duplicates."""
    ids = PacketIds(dedupe=dedupe)
    assembly = Muxer(Form.PCAPNG, 262144, max_packets=limit, packet_ids=ids)
    found = packets_of(both_ends(assembly, 20))
    assert len(found) == limit and assembly.full
    assert sum(account.written for account in assembly.accounts.values()) == limit


@given(limit=st.integers(0, 6000), ordered=st.booleans(), dedupe=st.booleans())
def test_a_size_is_never_exceeded(limit: int, ordered: bool, dedupe: bool) -> None:
    """A size limit holds, although numbers make blocks longer."""
    ids = PacketIds(dedupe=dedupe)
    assembly = Muxer(Form.PCAPNG, 262144, ordered=ordered, max_bytes=limit, packet_ids=ids)
    data = both_ends(assembly, 30)
    closing = sum(map(len, assembly.closing(10)))
    headers = sum(map(len, _headers(ids)))
    found = packets_of(data)
    assert len(data) <= max(limit, headers) + closing
    assert len(found) == sum(account.written for account in assembly.accounts.values())
    if not assembly.full:
        assert len(found) == (30 if dedupe else 60)


def _headers(ids: PacketIds) -> List[bytes]:
    assembly = Muxer(Form.PCAPNG, 262144, packet_ids=ids)
    for number, name in ((1, "a"), (2, "b")):
        assembly.source(number, Source(name, "eth0", 1, 262144, ""), 5)
    return assembly.take(0.0)


def test_numbers_across_files_of_instances() -> None:
    """A file per instance: the numbers are of the capture."""
    assembly = Split(Form.PCAPNG, 262144, ordered=False, packet_ids=PacketIds(dedupe=False))
    packet = ethernet(ipv4(udp(b"x")))
    for number, name in ((1, "a"), (2, "b")):
        assembly.source(number, Source(name, "eth0", 1, 262144, ""), 5)
        assembly.packets(number, record(number, packet), 0.0)
    data: Dict[str, bytes] = {}
    for piece in assembly.take_pieces(0.0):
        data[piece.stream] = data.get(piece.stream, b"") + piece.data
    assert [packets_of(each)[0].packet_id for each in data.values()] == [1, 1]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("dedupe", [True, False])
def test_what_was_lost_is_told_beside_the_number(ordered: bool, dedupe: bool) -> None:
    """When the packet with a drop count is left out as a duplicate, the next one of its source carries it."""
    assembly = Muxer(Form.PCAPNG, 262144, ordered=ordered, packet_ids=PacketIds(dedupe=dedupe, first=7))
    for number, name in ((1, "a"), (2, "b")):
        assembly.source(number, Source(name, "eth0", 1, 262144, ""), 5)
    packets = [ethernet(ipv4(udp(b"packet %d" % index))) for index in range(4)]
    data = b""
    now = 0

    def turn(number: int, index: int, dropped: int) -> None:
        nonlocal data, now
        now += 10
        assembly.stats(number, Stats(99, dropped, 0, 0, now, at_us=now))
        assembly.packets(number, record(now + 1, packets[index]), 0.0)
        data += b"".join(assembly.take(0.0))

    turn(1, 0, 0)
    turn(1, 1, 3)
    turn(2, 0, 5)  # seen before
    turn(2, 1, 6)  # seen before
    turn(2, 2, 8)
    turn(1, 2, 4)  # seen before
    data += b"".join(assembly.finish(10))
    told = [(interface, number, drops) for interface, number, drops in options_of(data)]
    a, b = assembly.accounts.values()
    if dedupe:
        assert told == [(0, 7, 0), (0, 8, 3), (1, 9, 8)]
        assert (a.lost_after_last, b.lost_after_last) == (1, 0)
    else:
        expected = [(0, 7, 0), (0, 8, 3), (1, 7, 5), (1, 8, 1), (1, 9, 2), (0, 9, 1)]
        assert sorted(told) == sorted(expected)
        assert a.lost_after_last == b.lost_after_last == 0


def options_of(data: bytes) -> List[Tuple[int, int, int]]:
    """Interface, packet number and number of lost packets of each packet block."""
    found = []
    position = 0
    while position < len(data):
        kind, size, interface = struct.unpack_from("<III", data, position)
        block = data[position + 8 : position + size - 4]
        if kind == 6:
            options = {4: 0, 5: 0}
            at = 20 + (struct.unpack_from("<I", block, 12)[0] + 3 & ~3)
            while (code := struct.unpack_from("<H", block, at)[0]) != 0:
                assert struct.unpack_from("<H", block, at + 2) == (8,)
                options[code] = struct.unpack_from("<Q", block, at + 4)[0]
                at += 12
            assert at + 4 == len(block)
            found.append((interface, options[5], options[4]))
        position += size
    return found
