"""The table of conversations: what it says of packets that were lost, repeated, late, or seen twice."""

from __future__ import annotations

import random
import struct
from typing import Any, Callable, List, Optional, Tuple

import pytest

from pcapd.analysis._facts import BETWEEN, HALF, SIGHTING, Between, Half, Seen
from pcapd.packet.row import make_row
from tests.kit.segments import ACK, CLIENT, FIN, RAW, RST, SERVER, SYN, ipv4, tables, tcp


class Capture:
    """Packets for a table, and what it says."""

    def __init__(self, table: Any, places: int = 1, **limits: int) -> None:
        self.closed: List[Any] = []
        self.payloads: List[Tuple[Any, ...]] = []
        self.lost: List[Tuple[int, int, int]] = []
        self.want: Callable[[int, bytes], int] = lambda offset, content: -1
        given = {
            "conversations": 100,
            "waiting": 1000,
            "window_us": 5_000_000,
            "idle_us": 4_000_000,
            **limits,
        }
        self.table = table(
            **given,
            closed=lambda key, seen, pairs: self.closed.append((key, seen, pairs)),
            payload=self._payload,
            lost=lambda *what: self.lost.append(what),
        )
        for _ in range(places):
            self.table.open_place(0)
        self.data = bytearray()
        self.rows: List[bytes] = []
        self.count = 0

    def _payload(self, *given: Any) -> int:
        self.payloads.append(given)
        return self.want(given[6], given[9])

    def see(self, us: int, packet: bytes, *places: int, number: Optional[int] = None, drops: int = 0) -> None:
        """One packet, at one place or several."""
        self.count += 1
        for place in places or (0,):
            number = self.count if number is None else number
            at = len(self.data)
            self.rows.append(make_row(RAW, packet, us, len(packet), place, at, number, drops))
        self.data += packet

    def up(
        self, us: int, seq: int, ack: int, flags: int = ACK, data: bytes = b"", *places: int, **more: Any
    ) -> None:
        """One of the client."""
        self.see(
            us, ipv4(CLIENT, SERVER, 6, tcp((40000, 80), seq, ack, flags, data, **more), self.count), *places
        )

    def down(
        self, us: int, seq: int, ack: int, flags: int = ACK, data: bytes = b"", *places: int, **more: Any
    ) -> None:
        """One of the server."""
        self.see(
            us, ipv4(SERVER, CLIENT, 6, tcp((80, 40000), seq, ack, flags, data, **more), self.count), *places
        )

    def hands(self, us: int = 1_000_000, *places: int) -> None:
        """The handshake."""
        self.up(us, 99, 0, SYN, b"", *places, options=b"\2\4\5\xb4")
        self.down(us + 100, 299, 100, SYN | ACK, b"", *places)
        self.up(us + 300, 100, 300, ACK, b"", *places)

    def end(self) -> None:
        self.table.add(b"".join(self.rows), [bytes(self.data)])
        self.table.close()

    def halves(self, place: int = 0) -> Tuple[Half, Half]:
        """What client and server sent, of the only conversation."""
        self.end()
        ((_, seen, _),) = self.closed
        for one in seen:
            facts = Seen(*SIGHTING.unpack_from(one))
            if facts.place == place:
                first = Half(*HALF.unpack_from(one, SIGHTING.size))
                return first, Half(*HALF.unpack_from(one, SIGHTING.size + HALF.size))
        raise AssertionError("the place saw nothing")

    def between(self) -> Tuple[Between, Between]:
        """What happened to the client's and the server's packets between the only two places."""
        self.end()
        ((_, _, pairs),) = self.closed
        ((_, _, both),) = pairs
        return Between(*BETWEEN.unpack_from(both)), Between(*BETWEEN.unpack_from(both, BETWEEN.size))


@pytest.fixture(params=tables(), ids=lambda table: table.__module__.rsplit(".", 1)[-1])
def capture(request: pytest.FixtureRequest) -> Capture:
    """One place."""
    return Capture(request.param)


@pytest.fixture(params=tables(), ids=lambda table: table.__module__.rsplit(".", 1)[-1])
def two(request: pytest.FixtureRequest) -> Capture:
    """Two places."""
    return Capture(request.param, 2)


def test_a_healthy_conversation(capture: Capture) -> None:
    """A healthy conversation shows no retransmission, late packet or unseen confirmation."""
    capture.hands()
    capture.up(1_001_000, 100, 300, ACK, b"x" * 50)
    capture.down(1_001_400, 300, 150, ACK, b"y" * 70)
    capture.up(1_001_500, 150, 370, FIN | ACK)
    capture.down(1_001_700, 370, 151, FIN | ACK)
    capture.up(1_001_800, 151, 371)
    client, server = capture.halves()
    assert (client.syn_us, server.syn_us, client.mss) == (1_000_000, 1_000_100, 1460)
    assert (client.bytes, client.next, client.acked, client.largest_acked) == (50, 51, 51, 50)
    assert (client.rtt_least_us, client.rtt_count, server.rtt_least_us) == (100, 3, 100)
    assert (client.fin_us, server.fin_us, server.fin_acked) == (1_001_500, 1_001_700, 51)
    for half in (client, server):
        assert not any(half[half._fields.index("rst_count") : half._fields.index("rtt_count")])


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ((1_300_000, 100, b"x" * 50), "retransmitted"),
        ((1_100_050, 100, b"x" * 50), "duplicates"),
        ((1_300_000, 149, b""), "keepalives"),
        ((1_300_000, 149, b"x"), "keepalives"),
    ],
)
def test_what_came_before(capture: Capture, second: Tuple[int, int, bytes], expected: str) -> None:
    """A packet that is sent again, one that was doubled on the way, and a probe of an idle connection."""
    capture.hands()
    capture.up(1_100_000, 100, 300, ACK, b"x" * 50)
    if expected == "duplicates":
        capture.count -= 1  # the same identification
    capture.up(second[0], second[1], 300, ACK, second[2])
    client, _ = capture.halves()
    fields = ("retransmitted", "duplicates", "keepalives", "late", "reordered", "unseen")
    assert {name: getattr(client, name) for name in fields if getattr(client, name)} == {expected: 1}


@pytest.mark.parametrize(("after", "expected"), [(500, "reordered"), (250_000, "late")])
def test_a_hole_that_is_filled(capture: Capture, after: int, expected: str) -> None:
    """A hole that is filled at once was overtaken; filled after a round trip, it was lost and sent again."""
    capture.hands()
    capture.up(1_100_000, 150, 300, ACK, b"x" * 50)
    capture.up(1_100_000 + after, 100, 300, ACK, b"x" * 50)
    client, _ = capture.halves()
    assert (client.late, client.reordered, client.retransmitted) == (
        expected == "late",
        expected != "late",
        0,
    )


def test_the_time_stamp_says_that_it_was_sent_again(capture: Capture) -> None:
    """The TCP time stamp shows a retransmission, however soon it comes (RFC 7323)."""
    stamp = b"\1\1\x08\x0a" + struct.pack("!II", 1000, 0)
    later = b"\1\1\x08\x0a" + struct.pack("!II", 1001, 0)
    capture.hands()
    capture.up(1_100_000, 150, 300, ACK, b"x" * 50, options=stamp)
    capture.up(1_100_900, 100, 300, ACK, b"x" * 50, options=later)
    client, _ = capture.halves()
    assert (client.late, client.reordered) == (1, 0)


def test_what_the_capture_missed_is_not_blamed_on_the_network(capture: Capture) -> None:
    """A packet that the other end confirms, but this place never saw, was missed by the capture."""
    capture.hands()
    capture.up(1_100_000, 150, 300, ACK, b"x" * 50)
    capture.down(1_100_200, 300, 200)
    client, _ = capture.halves()
    assert (client.unseen, client.late, client.retransmitted) == (1, 0, 0)


def test_a_closed_window(capture: Capture) -> None:
    """A closed window is reported with its number and duration."""
    capture.hands()
    for us, window in ((1_100_000, 0), (1_200_000, 0), (1_900_000, 100), (2_000_000, 0), (2_300_000, 9)):
        capture.down(us, 300, 100, ACK, b"", window=window)
    _, server = capture.halves()
    assert (server.zero_count, server.zero_us, server.zero_longest_us) == (2, 1_100_000, 800_000)


def test_a_reset(capture: Capture) -> None:
    """A reset is reported with its sender, the silence before, and the unconfirmed bytes."""
    capture.hands()
    capture.up(1_100_000, 100, 300, ACK, b"x" * 50)
    capture.down(9_100_000, 300, 0, RST)
    client, server = capture.halves()
    assert (server.rst_count, server.rst_idle_us, server.rst_unacked_peer, client.rst_count) == (
        1,
        8_000_000,
        50,
        0,
    )


def test_the_same_ends_again(capture: Capture) -> None:
    """A SYN with another number begins another conversation; one with the same is repeated."""
    capture.up(1_000_000, 99, 0, SYN)
    capture.up(2_000_000, 99, 0, SYN)
    capture.up(9_000_000, 77099, 0, SYN)
    capture.end()
    counts = [Half(*HALF.unpack_from(seen[0], SIGHTING.size)).syn_count for _, seen, _ in capture.closed]
    assert counts == [2, 1]


def test_payloads_as_far_as_they_are_wanted(capture: Capture) -> None:
    """The reader of payloads says from which offset on it wants more; repeated ones are not given."""
    capture.want = lambda offset, content: {0: 100, 100: -1}[offset]
    capture.hands()
    for us, offset in ((1, 0), (2, 50), (300_000, 50), (300_001, 100), (300_002, 150)):
        capture.up(1_100_000 + us, 100 + offset, 300, ACK, bytes([65 + offset // 50]) * 50)
    capture.end()
    assert [given[1:10] for given in capture.payloads] == [
        (6, 0, 0, 1_100_001, 4, 0, 100, 50, b"A" * 50),
        (6, 0, 0, 1_400_001 - 0, 7, 100, 200, 50, b"C" * 50),
    ]


def test_lost_between_two_places(two: Capture) -> None:
    """A packet seen at the first place only was lost between the two places."""
    two.hands(1_000_000, 0, 1)
    two.up(1_100_000, 100, 300, ACK, b"x" * 50, 0)
    two.up(1_400_000, 100, 300, ACK, b"x" * 50, 0, 1)
    two.down(1_400_100, 300, 150, ACK, b"", 0, 1)
    up, down = two.between()
    assert (up.again_first, up.again_second, up.again_each, up.both) == (1, 0, 0, 3)
    assert (up.only_first + up.since_first, down.both, down.again_first) == (1, 2, 0)


def test_lost_behind_both_places(two: Capture) -> None:
    """A packet that both places saw twice is one retransmission, not three."""
    two.hands(1_000_000, 0, 1)
    for us in (1_100_000, 1_400_000):
        two.up(us, 100, 300, ACK, b"x" * 50, 0, 1)
    up, _ = two.between()
    assert (up.again_first, up.again_second, up.again_each, up.only_first) == (0, 0, 1, 0)


@pytest.mark.parametrize(("apart", "lost", "forgotten"), [(10_000, 50, 0), (400_000, 0, 100)])
@pytest.mark.parametrize("table", tables(), ids=lambda table: table.__module__.rsplit(".", 1)[-1])
def test_what_is_forgotten_early_is_not_lost(table: Any, apart: int, lost: int, forgotten: int) -> None:
    """A packet that might still be seen at the other place when its memory is needed was not lost."""
    two = Capture(table, 2, waiting=400, window_us=5_000_000)
    known = [(1000 * number, number) for number in range(10)]
    asked = [(2_000_000 + 1000 * number, 100 + number) for number in range(100)]
    crowd = [(2_150_000 + 100 * number, 1000 + number) for number in range(600)]
    sightings = [(us, number, 0) for us, number in known + asked + crowd]
    sightings += [(us + apart, number, 1) for us, number in known + asked[::2]]
    sightings += [(us + 1, number, 1) for us, number in crowd]
    for us, number, place in sorted(sightings):
        port = 7000 if number < 1000 else 7001
        packet = ipv4(CLIENT, SERVER, 17, struct.pack("!HHHH", port, 9, 8, 0), number)
        two.see(10_000_000 + us, packet, place, number=number + 1)
    two.end()
    both = [Between(*BETWEEN.unpack_from(pairs[0][2])) for _, _, pairs in two.closed]
    alone = [one.only_first + one.since_first + one.only_second + one.since_second for one in both]
    assert (sum(alone), two.table.forgotten) == (lost, forgotten)


def test_two_places_of_a_healthy_conversation(two: Capture) -> None:
    """A packet that is seen at two places is never sent again."""
    two.hands(1_000_000, 0, 1)
    for number in range(20):
        two.up(1_100_000 + number, 100 + 50 * number, 300, ACK, b"x" * 50, 0, 1)
    client, server = two.halves(1)
    assert (client.retransmitted, client.duplicates, client.late, server.retransmitted) == (0, 0, 0, 0)
    assert two.table.places() == [(23, 1_000_000, 1_100_019)] * 2


def test_clocks(two: Capture) -> None:
    """The least delays each way, whichever end is whose."""
    for number in range(40):
        up, down = 1_000_000 + 100_000 * number, 1_050_000 + 100_000 * number
        for place, us in ((0, up), (1, up + 700 + number % 7)):
            two.see(
                us,
                ipv4(CLIENT, SERVER, 17, struct.pack("!HHHHI", 9, 10, 12, 0, number), number),
                place,
                number=number,
            )
        for place, us in ((1, down), (0, down - 300 + number % 7)):
            two.see(us, ipv4(SERVER, CLIENT, 17, struct.pack("!HHHHI", 10, 9, 12, 0, number), number), place,
                    number=1000 + number)  # fmt: skip
    two.end()
    ((a, b, there, back),) = two.table.clocks()
    assert (a, b, min(delta for _, delta in there), max(delta for _, delta in back)) == (0, 1, 700, 300)


def test_loopback_of_two_containers(two: Capture) -> None:
    """127.0.0.1 at two places is never one connection."""
    here = bytes([127, 0, 0, 1])
    for place in (0, 1):
        two.see(1_000_000 + place, ipv4(here, here, 6, tcp((40000, 80), 99, 0, SYN), 7), place)
    two.end()
    assert [len(seen) for _, seen, _ in two.closed] == [1, 1]


@pytest.mark.parametrize("table", tables())
def test_the_least_recently_used_is_closed(table: Any) -> None:
    """The least recently used conversation is closed and counted, and drops are given out with their place."""
    capture = Capture(table, conversations=2)
    for port in (1, 2, 1, 3):
        capture.see(
            port, ipv4(CLIENT, SERVER, 17, struct.pack("!HHHH", port, 9, 8, 0), port), drops=port // 3 * 5
        )
    capture.table.add(b"".join(capture.rows), [bytes(capture.data)])
    assert len(capture.closed) == 1 and capture.table.evicted == 1
    assert capture.lost == [(0, 3, 5)]


def _random_capture(seed: int, table: Any) -> Tuple[Any, ...]:
    """Everything that a table says of packets which make little sense."""
    random_ = random.Random(seed)
    places = random_.choice((1, 2, 3))
    capture = Capture(table, places, conversations=3, waiting=40, window_us=3_000_000, idle_us=2_000_000)
    capture.want = lambda offset, content: random_.choice((-1, offset, offset + 40, 0))
    us = 1_000_000
    number = 0
    for _ in range(400):
        us += random_.choice((0, 1, 50, 4000, 20_000, 900_000))
        up = random_.random() < 0.6
        ports = random_.choice(((1, 2), (3, 2), (9, 9)))
        flags = random_.choice((ACK, ACK, ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0))
        seq = random_.choice((0, 4294967200)) + 20 * random_.randrange(20)
        data = bytes(random_.choice((0, 0, 1, 20, 40, 60)))
        options = random_.choice(
            (b"", b"\1\1\x08\x0a" + struct.pack("!II", us // 1000, 0), b"\2\4\5\xb4", b"\x08\x50\1\1")
        )
        window = random_.choice((0, 1, 100))
        packet = tcp(
            ports if up else ports[::-1], seq, 20 * random_.randrange(22), flags, data, window, options
        )
        protocol = random_.choice((6,) * 12 + (17, 1))
        whole = ipv4(*((CLIENT, SERVER) if up else (SERVER, CLIENT)), protocol, packet, random_.randrange(3))
        whole = whole[: random_.choice((len(whole),) * 9 + (30,))]
        number += random_.random() < 0.8
        for place in random_.sample(range(places), random_.randint(1, places)):
            capture.see(us + place * 40, whole, place, number=number, drops=random_.random() < 0.05)
    capture.end()
    table_ = capture.table
    counters = (table_.packets, table_.others, table_.beyond, table_.evicted, table_.forgotten)
    return counters, table_.places(), table_.clocks(), capture.closed, capture.payloads, capture.lost


@pytest.mark.parametrize("seed", range(10))
def test_both_say_the_same(seed: int) -> None:
    """The compiled table and the one in Python, of packets at random."""
    found = tables()
    if len(found) == 1:
        pytest.skip("pcapd.analysis._native is not built")
    assert _random_capture(seed, found[1]) == _random_capture(seed, found[0])
