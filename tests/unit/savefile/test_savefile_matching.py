"""The same packet at several places: what counts as the same, and what is written about it."""

from __future__ import annotations

import ipaddress
import struct
from typing import Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.records import Form
from pcapd.savefile import linktypes
from pcapd.savefile.assembly import Assembly
from pcapd.savefile.matching import Matcher, PacketIds
from pcapd.savefile.network import flow_key, network, unchanging
from pcapd.savefile.reader import FilePacket, Reader
from pcapd.savefile.split import Split
from pcapd.wire import Source, Stats

SECOND = 1_000_000
MACS = bytes(12)


def ipv4(payload: bytes, protocol: int = 17, *, ttl: int = 64, checksum: int = 0, fragment: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, ttl, protocol, checksum)
    return head + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + payload


def ipv6(payload: bytes, protocol: int = 17, *, hops: int = 64) -> bytes:
    ends = ipaddress.ip_address("2001:db8::1").packed * 2
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + ends + payload


def udp(payload: bytes, checksum: int = 0) -> bytes:
    return struct.pack("!4H", 40000, 9, 8 + len(payload), checksum) + payload


def tcp(payload: bytes, checksum: int = 0) -> bytes:
    return struct.pack("!HHIIBBHHH", 40000, 80, 1, 2, 5 << 4, 16, 99, checksum, 0) + payload


def ethernet(packet: bytes, macs: bytes = MACS) -> bytes:
    return macs + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


SAME = {
    "time to live and checksum": (ipv4(udp(b"x")), ipv4(udp(b"x"), ttl=63, checksum=5)),
    "checksum of udp": (ipv4(udp(b"x")), ipv4(udp(b"x", 77))),
    "checksum of tcp": (ipv4(tcp(b"x"), 6), ipv4(tcp(b"x", 77), 6)),
    "ipv6": (ipv6(tcp(b"x"), 6), ipv6(tcp(b"x", 9), 6, hops=3)),
}
DIFFERENT = {
    "payload": (ipv4(udp(b"x")), ipv4(udp(b"y"))),
    "length": (ipv4(udp(b"x")), ipv4(udp(b"xx"))),
    "protocol": (ipv4(udp(b"x")), ipv4(udp(b"x"), 6)),
    "what is no checksum in a fragment": (
        ipv4(udp(b"x" * 8, 1), fragment=5),
        ipv4(udp(b"x" * 8, 2), fragment=5),
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_routers_and_cards_change(case: str) -> None:
    """Makes no other packet of it; neither do Ethernet addresses and padding."""
    one, other = SAME[case]
    assert unchanging(linktypes.ETHERNET, ethernet(one)) == unchanging(
        linktypes.ETHERNET, ethernet(other, b"\1" * 12)
    )
    assert unchanging(linktypes.RAW, one) == unchanging(linktypes.ETHERNET, ethernet(other))


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_makes_another_packet(case: str) -> None:
    """Everything else."""
    one, other = DIFFERENT[case]
    assert unchanging(linktypes.RAW, one) != unchanging(linktypes.RAW, other)


@pytest.mark.parametrize("payload", [tcp(b""), tcp(b"abc")])
def test_padding_of_short_frames(payload: bytes) -> None:
    """Is not of the packet, whatever it holds."""
    frame = ethernet(ipv4(payload, 6))
    assert unchanging(1, frame + b"\0" * 6) == unchanging(1, frame + b"\xaa" * 3) == unchanging(1, frame)


def test_what_is_no_ip() -> None:
    """Has no identity: it is not matched."""
    for data in (
        b"",
        MACS,
        MACS + b"\x08\x06" + bytes(28),
        MACS + b"\x08\x06" + bytes(46),
        ethernet(ipv4(b""))[:20],
        ethernet(ipv6(b""))[:40],
    ):
        assert unchanging(1, data) is None
    assert unchanging(127, bytes(100)) is None


V4 = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
V6 = ipaddress.ip_address("2001:db8::1").packed, ipaddress.ip_address("2001:db8::1").packed


@pytest.mark.parametrize(
    ("content", "flow"),
    [
        (ipv4(udp(b"x")), (*V4, 17, (40000, 9))),
        (ipv6(tcp(b"x"), 6), (*V6, 6, (40000, 80))),
        (ipv4(udp(b"x"), 1), (*V4, 1, None)),
        (ipv4(udp(b"x"), fragment=5), (*V4, 17, None)),
        (ipv6(b"abc"), (*V6, 17, None)),
    ],
    ids=["v4", "v6", "without ports", "later fragment", "cut before the ports"],
)
def test_the_flow_of_a_packet(content: bytes, flow: Tuple[object, ...]) -> None:
    """Is its addresses, its protocol, and its ports where they are there."""
    assert flow_key(content) == flow


@pytest.mark.parametrize("content", [b"", ipv4(b"")[:19], ipv6(b"")[:39], b"\x60" + ipv4(b"")[1:]])
def test_what_is_too_short_for_its_addresses(content: bytes) -> None:
    """Is of no flow."""
    assert flow_key(content) is None


@given(link_type=st.sampled_from([0, 1, 101, 113, 276, 127]), data=st.binary(max_size=120))
def test_garbage(link_type: int, data: bytes) -> None:
    """Is never an error; what comes out is no longer than what came in."""
    content = unchanging(link_type, data)
    place = network(link_type, data)
    assert content is None or (place is not None and len(content) <= len(data) - place.offset)


# --- matching -------------------------------------------------------------------


def test_two_ends() -> None:
    """The same number at both, another one for another packet."""
    matcher = Matcher()
    assert matcher.see(0, 0, b"a") == (1, False)
    assert matcher.see(0, 1, b"b") == (2, False)
    assert matcher.see(1, 2, b"a") == (1, True)
    assert matcher.see(2, 3, b"a") == (1, True)


def test_a_packet_that_is_sent_again() -> None:
    """Is another one; the first at one end belongs to the first at the other."""
    matcher = Matcher()
    numbers = [matcher.see(source, time, b"a").number for time, source in enumerate((0, 0, 1, 1, 1))]
    assert numbers == [1, 2, 1, 2, 3]


def test_the_window() -> None:
    """What was seen too long ago is another packet."""
    matcher = Matcher(window=2.0)
    matcher.see(0, 10 * SECOND, b"a")
    assert matcher.see(1, 12 * SECOND, b"a").again
    assert not matcher.see(2, 12 * SECOND + 1, b"a").again
    assert matcher.forgotten == 0


def test_clocks_that_differ() -> None:
    """The later sighting may have the earlier time, within the window too."""
    matcher = Matcher(window=2.0)
    matcher.see(0, 10 * SECOND, b"a")
    assert matcher.see(1, 8 * SECOND, b"a").again
    assert not matcher.see(2, 8 * SECOND - 1, b"a").again


def test_bounded_memory() -> None:
    """The oldest are forgotten, which is counted."""
    matcher = Matcher(packets=3)
    for number in range(5):
        matcher.see(0, number, bytes([number]))
    assert matcher.forgotten == 2
    assert not matcher.see(1, 6, b"\0").again
    assert matcher.see(1, 6, b"\4").again


def test_a_packet_that_both_ends_saw_is_not_missed() -> None:
    """It has its number at both; that it makes room is no loss."""
    matcher = Matcher(packets=3)
    for number in range(9):
        matcher.see(0, number, bytes([number]))
        matcher.see(1, number, bytes([number]))
    assert matcher.forgotten == 0


@given(
    sightings=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6 * SECOND), st.integers(0, 5)), max_size=60
    ),
    limit=st.integers(1, 8),
)
def test_numbers_are_never_wrong(sightings: List[Tuple[int, int, int]], limit: int) -> None:
    """One number is of one content, and once per source; memory stays within its bounds."""
    matcher = Matcher(packets=limit)
    content_of: Dict[int, int] = {}
    seen = set()
    for source, us, content in sightings:
        number, again = matcher.see(source, us, bytes([content]))
        assert again == (number in content_of)
        assert content_of.setdefault(number, content) == content
        assert (source, number) not in seen
        seen.add((source, number))
        assert len(matcher._ages) <= limit
        assert sum(map(len, matcher._known.values())) == len(matcher._ages)


# --- in files --------------------------------------------------------------------


def record(us: int, packet: bytes) -> bytes:
    return struct.pack("<4I", us // SECOND, us % SECOND, len(packet), len(packet)) + packet


def packets_of(data: bytes) -> List[FilePacket]:
    return list(Reader().packets(data))


def both_ends(assembly: Assembly, count: int, *, lost: Tuple[int, ...] = ()) -> bytes:
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
    assembly = Assembly(Form.PCAPNG, 262144, ordered=ordered, packet_ids=ids)
    assembly.source(9, Source("c", "eth0", 1, 262144, ""), 5)
    assembly.packets(9, record(1, MACS + b"\x08\x06" + bytes(28)), 0.0)
    found = packets_of(both_ends(assembly, 5, lost=(2,)))
    numbers: Dict[str, List[Optional[int]]] = {}
    for packet in found:
        numbers.setdefault(packet.interface.name[0], []).append(packet.packet_id)
    assert numbers == {"a": [100, 101, 102, 103, 104], "b": [100, 101, 103, 104], "c": [None]}
    assert [packet.data[-8:] for packet in found if packet.packet_id == 104] == [b"packet 4"] * 2


def test_without_the_option_nothing_changes() -> None:
    """Blocks have no options then."""
    assert {packet.packet_id for packet in packets_of(both_ends(Assembly(Form.PCAPNG, 262144), 3))} == {None}


@pytest.mark.parametrize("ordered", [True, False])
def test_duplicates_are_counted(ordered: bool) -> None:
    """The first one stays; the counters of the file and of the report know of the others."""
    assembly = Assembly(Form.PCAPNG, 262144, ordered=ordered, packet_ids=PacketIds(dedupe=True))
    data = both_ends(assembly, 5, lost=(2,))
    assert [packet.interface.name for packet in packets_of(data)] == ["a:eth0"] * 5
    a, b = assembly.accounts.values()
    assert (a.received, a.written, a.duplicates) == (5, 5, 0)
    assert (b.received, b.written, b.duplicates) == (4, 0, 4)
    assert not assembly.full


@pytest.mark.parametrize("dedupe", [True, False])
@pytest.mark.parametrize("limit", [3, 4, 7])
def test_a_count_is_of_packets_in_the_file(dedupe: bool, limit: int) -> None:
    """Duplicates do not use it up."""
    ids = PacketIds(dedupe=dedupe)
    assembly = Assembly(Form.PCAPNG, 262144, max_packets=limit, packet_ids=ids)
    found = packets_of(both_ends(assembly, 20))
    assert len(found) == limit and assembly.full
    assert sum(account.written for account in assembly.accounts.values()) == limit


@given(limit=st.integers(0, 6000), ordered=st.booleans(), dedupe=st.booleans())
def test_a_size_is_never_exceeded(limit: int, ordered: bool, dedupe: bool) -> None:
    """Although numbers make blocks longer."""
    ids = PacketIds(dedupe=dedupe)
    assembly = Assembly(Form.PCAPNG, 262144, ordered=ordered, max_bytes=limit, packet_ids=ids)
    data = both_ends(assembly, 30)
    closing = sum(map(len, assembly.closing(10)))
    headers = sum(map(len, _headers()))
    found = packets_of(data)
    assert len(data) <= max(limit, headers) + closing
    assert len(found) == sum(account.written for account in assembly.accounts.values())
    if not assembly.full:
        assert len(found) == (30 if dedupe else 60)


def _headers() -> List[bytes]:
    assembly = Assembly(Form.PCAPNG, 262144)
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
    """Where the packet that told it is left out, the next one of that source does, or nobody."""
    assembly = Assembly(Form.PCAPNG, 262144, ordered=ordered, packet_ids=PacketIds(dedupe=dedupe, first=7))
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
