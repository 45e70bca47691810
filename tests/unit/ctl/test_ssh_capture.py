"""One interface of one host, without ssh: its states, its limits of time with a played clock, its counters."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pcapd.ctl.ssh.capture import CONNECT_TIMEOUT, STOP_LIMIT, STOP_TIMEOUT, FarCapture, Item, State
from pcapd.ctl.ssh.farside import MARK
from pcapd.records import Converted
from pcapd.wire import Notice, NoticeType, Request, Source, Stats

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
PACKET = struct.pack("<IIII", 1_700_000_000, 5, 60, 60) + bytes(60)
TOOL = "tool direct Linux /usr/bin/tcpdump 4.99.3 eth0"
COUNTERS = "2 packets captured\n2 packets received by filter\n1 packet dropped by kernel\n"
#: The time here at second 0, and how far the host's clock is ahead, in microseconds.
EPOCH, AHEAD = 1_700_000_000_000_000, 2_000_000


class Played:
    """A capture whose clock and host the test plays."""

    def __init__(self, **options: Any) -> None:
        request = Request(targets=("web-0",), filter=options.pop("filter", ""))
        self.now = 0.0
        self.capture = FarCapture("web-0", options.pop("device", ""), request, self.now, **options)
        self.items: list[Item] = []
        self._questions = 0

    @property
    def state(self) -> State:
        """The state of the capture."""
        return self.capture.state

    def say(self, *lines: str) -> list[Item]:
        """Lines of the scripts."""
        return self.err("".join(f"{MARK} {line}\n" for line in lines))

    def err(self, text: str) -> list[Item]:
        """Text on stderr; empty for its end."""
        return self._take(self.capture.stderr(text.encode(), self.now, EPOCH + int(self.now * 1e6)))

    def out(self, data: bytes) -> list[Item]:
        """Bytes on stdout."""
        return self._take(self.capture.stdout(memoryview(data), self.now))

    def exit(self, status: int = 0) -> list[Item]:
        """The end of ssh."""
        self.err("")
        return self._take(self.capture.exited(status))

    def _take(self, items: Any) -> list[Item]:
        new = list(items)
        self.items += new
        return new

    def wait(self, seconds: float, *, heard: bool = False) -> None:
        """Let time pass, with or without a sign of life of the host."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1.0)
            if heard:
                self.say("time - 1")
            self.capture.tick(self.now)

    def answer(self, round_trip: float = 0.01) -> None:
        """Ask for the time, and answer."""
        self._questions += 1
        self.capture.ask(str(self._questions), EPOCH + int(self.now * 1e6))
        there_us = EPOCH + AHEAD + int((self.now + round_trip / 2) * 1e6)
        self.now += round_trip
        self.say(f"time {self._questions} {there_us // 1_000_000}.{there_us % 1_000_000:06d}000")

    def ready(self) -> None:
        """Go on until the host's clock is known."""
        self.say("hello 22", TOOL)
        for round_trip in (0.5, 0.01, 0.3, 0.2, 0.1):
            assert self.capture.asks
            self.answer(round_trip)
        assert self.state is State.READY

    def start(self) -> None:
        """Go on until the first packets."""
        self.ready()
        self.capture.go(self.now)
        assert self.capture.to_send == b"go\n"
        self.capture.to_send = b""
        self.out(f"welcome\n{MARK}\n".encode() + HEADER + PACKET * 2)
        assert self.state is State.CAPTURING

    @property
    def source(self) -> Source:
        """The only source."""
        (found,) = [item for item in self.items if isinstance(item, Source)]
        return found

    @property
    def last(self) -> Stats:
        """The last counters."""
        return [item for item in self.items if isinstance(item, Stats)][-1]

    @property
    def notices(self) -> list[Notice]:
        """All notices."""
        return [item for item in self.items if isinstance(item, Notice)]


def test_from_login_to_end() -> None:
    """The source has the quickest answer's clock and the effective filter; the counters are exact."""
    played = Played(filter="udp")
    played.start()
    source = played.source
    assert (source.instance, source.interface, source.snaplen) == ("web-0", "eth0", 65535)
    assert source.filter == "not tcp port 22 and (udp)"
    assert source.clock_offset_us == AHEAD and source.clock_error_us == 5001
    played.capture.stop(played.now)
    played.wait(1.2)
    assert played.capture.to_send == b"stop\n"
    played.err(COUNTERS)
    played.say("end 0")
    played.exit()
    assert played.last == Stats(3, 1, 0, 2, EPOCH + 5, final=True, at_us=EPOCH + 5) and not played.notices
    assert sum(item.checked.packets for item in played.items if isinstance(item, Converted)) == 2


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "no answer within 30 s (check: ssh web-0 true)"),
        (["time - 1", "tool a", "@"], "no answer within 30 s (check: ssh web-0 true)"),
        (["hello 22", TOOL], "the capture did not start within 20 s"),
        (["hello 22", TOOL, TOOL, "time 99 1.5"], "the capture did not start within 20 s"),
    ],
)
def test_a_host_that_does_not_go_on(lines: list[str], problem: str) -> None:
    """A start that does not go on is given up, however much the host says meanwhile."""
    played = Played()
    for _ in range(int(CONNECT_TIMEOUT) + 1):
        played.say(*lines)
        played.err("chatter\n")
        played.wait(1.0)
    assert played.capture.abandoned
    played.exit(-9)
    assert [(notice.type, notice.message) for notice in played.notices] == [
        (NoticeType.START_CAPTURE_FAILED, problem)
    ]


def test_a_user_may_take_time() -> None:
    """Where ssh asks for a password, there is no limit of time."""
    played = Played(patient=True)
    played.wait(3600)
    assert not played.capture.abandoned


def test_a_silent_host() -> None:
    """A host that is not heard for 30 seconds is given up; one without packets is not."""
    played = Played()
    played.start()
    played.wait(600, heard=True)
    assert not played.capture.abandoned
    played.wait(29)
    assert not played.capture.abandoned
    played.wait(2)
    assert played.capture.abandoned
    played.exit(-9)
    assert not played.last.exact and "nothing was heard for 30 s" in played.notices[-1].message


@pytest.mark.parametrize(("drips", "limit"), [(False, STOP_TIMEOUT), (True, STOP_LIMIT)])
def test_a_stop_that_takes_too_long(drips: bool, limit: float) -> None:
    """A stop waits for packets that still come, but not for ever."""
    played = Played()
    played.start()
    played.capture.stop(played.now)
    began = played.now
    while not played.capture.abandoned:
        if drips:
            played.out(PACKET)
        played.wait(1.0)
    assert limit <= played.now - began <= limit + 2


@pytest.mark.parametrize("until", ["hello", "ready"])
def test_a_stop_before_the_start(until: str) -> None:
    """A host that does not capture yet is left without a word."""
    played = Played()
    if until == "ready":
        played.ready()
    played.capture.stop(played.now)
    assert played.capture.abandoned and played.exit(255) == [] and played.state is State.ENDED


@pytest.mark.parametrize(
    ("text", "received", "dropped", "delivered", "exact"),
    [
        (COUNTERS, 3, 1, 2, True),
        (COUNTERS.replace("2 packets captured", "1 packet captured"), 3, 1, 2, True),
        (COUNTERS.replace("2 packets captured", "9 packets captured"), 10, 1, 9, True),
        (
            COUNTERS.replace("1 packet dropped", f"{10**18 - 1} packets dropped"),
            10**18 + 1,
            10**18 - 1,
            2,
            True,
        ),
        ("2 packets captured\n", 2, 0, 2, False),
        ("", 2, 0, 2, False),
    ],
    ids=["as they are", "fewer than arrived", "more than arrived", "many", "a part", "none"],
)
def test_counters(text: str, received: int, dropped: int, delivered: int, exact: bool) -> None:
    """The last counters fit what arrived, and are unknown rather than 0."""
    played = Played()
    played.start()
    played.err(text)
    played.say("end 0")
    played.exit()
    last = played.last
    assert (last.received, last.dropped_kernel, last.delivered) == (received, dropped, delivered)
    assert last.exact is exact and last.counted is exact and last.final


@pytest.mark.parametrize(
    ("data", "words", "arrived"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" + bytes(20), "what arrived is not a capture", 0),
        (HEADER + struct.pack("<IIII", 1, 1, 65536, 65536), "packet 1, at byte 24", 0),
        (HEADER + PACKET + struct.pack("<IIII", 1, 1, 60, 59), "packet 2, at byte 100", 1),
    ],
)
def test_streams_that_are_not_valid(data: bytes, words: str, arrived: int) -> None:
    """A stream that is not valid gives up the host, once, and what came before it counts."""
    played = Played()
    played.ready()
    played.capture.go(played.now)
    played.out(f"{MARK}\n".encode() + data)
    played.out(data)
    assert played.capture.abandoned
    played.exit(-9)
    assert len(played.notices) == 1 and words in played.notices[0].message
    assert sum(item.checked.packets for item in played.items if isinstance(item, Converted)) == arrived


@pytest.mark.parametrize("until", ["login", "ready"])
def test_packets_that_nobody_asked_for(until: str) -> None:
    """Packets before the capture begins belong to no source, and give up the host."""
    played = Played()
    if until == "ready":
        played.ready()
    assert played.out(f"{MARK}\n".encode() + HEADER + PACKET) == []
    played.exit(-9)
    assert [notice.message for notice in played.notices] == ["the host sent packets before the capture began"]


@pytest.mark.parametrize("device", ["e" * 257, "eth\x1b[2J", "\u202eeth0"])
def test_a_name_that_cannot_be(device: str) -> None:
    """An interface with an impossible name gives up the host before it captures."""
    played = Played()
    played.say("hello 22", f"tool direct Linux /usr/bin/tcpdump 4.99.3 {device}")
    assert played.capture.abandoned
    played.exit(0)
    assert "the host says that the interface is" in played.notices[0].message
    chosen = Played(device="lo")
    chosen.say("hello 22", f"tool direct Linux /usr/bin/tcpdump 4.99.3 {device}")
    assert chosen.capture.device == "lo" and not chosen.capture.abandoned


def test_an_endless_greeting() -> None:
    """What comes before the capture is not kept, and has an end; it may be cut anywhere."""
    played = Played()
    mark = f"{MARK}\n".encode()
    played.ready()
    played.capture.go(played.now)
    played.out(b"x" * 1000 + mark[:3])
    played.out(mark[3:] + HEADER)
    assert played.state is State.CAPTURING
    endless = Played()
    for _ in range(20):
        endless.out(b"x" * 65536)
    assert endless.capture.abandoned and len(endless.capture._greeting or b"") < 100


@pytest.mark.parametrize(
    ("line", "signals"),
    [
        (TOOL, True),
        (TOOL.replace("4.99.3", "5.0.0"), True),
        (TOOL.replace("4.99.3", "4.9.3"), False),
        (TOOL.replace("Linux", "Darwin"), False),
        (TOOL.replace("direct", "terminal"), False),
        (TOOL.replace("tcpdump", "dumpcap"), False),
        (TOOL.replace("4.99.3", "0"), False),
    ],
)
def test_who_is_asked_for_counters(line: str, signals: bool) -> None:
    """Only a tcpdump that prints its counters at SIGUSR1 is signalled."""
    played = Played()
    played.say("hello 22", line)
    for _ in range(5):
        played.answer()
    played.capture.go(played.now)
    played.out(f"{MARK}\n".encode() + HEADER)
    assert (b"u\n" in played.capture.heartbeat) is signals
