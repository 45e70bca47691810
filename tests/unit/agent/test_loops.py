"""The detector of loops on played connections: what is driven by us is found, what moves by itself is not."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Callable, Optional

import pytest

from pcapd.agent.loops import LoopDetector, Step
from pcapd.limits import LOOP_SUSPECTS_MAX, LOOP_SUSPICIOUS, LOOP_TEST_BYTES, LOOP_TEST_TIME, LOOP_TESTS
from pcapd.records import Busy

_TICK_US = 5000
_START_US = 1_700_000_000_000_000


def key(number: int) -> bytes:
    """Both ends of a connection: 10.0.0.1:443 and 10.0.0.2:NUMBER."""
    return bytes([10, 0, 0, 1, 1, 187, 10, 0, 0, 2]) + number.to_bytes(2, "big")


@dataclass
class Leg:
    """A connection.

    Attributes:
        moves: Packets of its own at a time, microseconds since the beginning.
        delay_us: From what we send to the packets that it causes; None: it does not follow us.
    """

    number: int
    moves: Callable[[int], int] = lambda at: 0
    delay_us: Optional[int] = None
    coming: deque[tuple[int, int]] = field(default_factory=deque)


class Agent:
    """An agent that captures these connections, sends what it captures, and tests what it suspects."""

    def __init__(self, *legs: Leg, seed: int = 1) -> None:
        self.detector = LoopDetector(random.Random(seed))
        self.detector.capture_begins()
        self.legs = legs
        self.now_us = _START_US
        self.withheld = 0
        self.found: list[str] = []
        self.tests = 0
        self.tested_us = 0

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 1_000_000 / _TICK_US)):
            self.tick()

    def tick(self) -> None:
        self.now_us += _TICK_US
        captured = [(leg, self._packets(leg)) for leg in self.legs]
        count = sum(packets for _, packets in captured)
        busy = [Busy(key(leg.number), n, 100 * n, self.now_us) for leg, n in captured if n]
        if busy:
            self.detector.saw(self.now_us, busy)
            if not self.detector.testing and self.detector.begin(self.now_us):
                self.tests += 1
        if not self.detector.testing:
            heartbeat = self.now_us % 100_000 < _TICK_US  # counters, ten times a second
            self._send(count + heartbeat)
            return
        self.tested_us += _TICK_US
        self.withheld += count
        self.detector.withhold(100 * count)
        step, loops = self.detector.judge(self.now_us, all_seen=True)
        self.found += [f"{loop.a}:{loop.a_port}-{loop.b_port}" for loop in loops]
        self.legs = tuple(leg for leg in self.legs if leg.number not in [loop.b_port for loop in loops])
        if step is Step.SEND_SOME:
            self._send(min(1, self.withheld) or 1)
        elif step is Step.SEND_ALL:
            self._send(self.withheld)
            self.withheld = 0

    def _packets(self, leg: Leg) -> int:
        packets = leg.moves(self.now_us - _START_US)
        while leg.coming and leg.coming[0][0] <= self.now_us:
            packets += leg.coming.popleft()[1]
        return packets

    def _send(self, count: int) -> None:
        for leg in self.legs if count else ():
            if leg.delay_us is not None:
                leg.coming.append((self.now_us + leg.delay_us, min(2 * count, 1000)))


def steady(at: int) -> int:
    return 3


def bursts(period_ms: int, of: int = 20) -> Callable[[int], int]:
    """So many packets together every so often."""
    return lambda at: of if at // 1000 % period_ms < _TICK_US // 1000 else 0


@pytest.mark.parametrize("delay_ms", [1, 8, 40, 120])
@pytest.mark.parametrize("others", [(), (Leg(2, steady), Leg(3, bursts(70)))], ids=["alone", "among others"])
def test_a_loop_is_found(delay_ms: int, others: tuple[Leg, ...]) -> None:
    """A loop is found however long its way is, and only the loop is left out."""
    agent = Agent(Leg(1, delay_us=delay_ms * 1000), *others)
    agent.run(6)
    assert agent.found == ["10.0.0.1:443-1"]


def test_loops_of_several_captures_are_found_together() -> None:
    """A loop of connections of several captures is found."""
    agent = Agent(*(Leg(number, delay_us=3000 * number) for number in range(1, 6)))
    agent.run(4)
    assert sorted(agent.found) == [f"10.0.0.1:443-{number}" for number in range(1, 6)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "moves", [steady, bursts(20), bursts(50), bursts(100), bursts(180), bursts(400), bursts(1000, 200)]
)
def test_what_moves_by_itself_is_not_left_out(moves: Callable[[int], int], seed: int) -> None:
    """Traffic with a rhythm of its own is not taken for a loop, however often it is tested."""
    agent = Agent(Leg(1, moves), seed=seed)
    agent.run(20)
    assert agent.tests > 0 and agent.found == []


def test_captures_without_a_loop_are_hardly_delayed() -> None:
    """A connection that goes on ends a first test soon, and is tested less and less often."""
    agent = Agent(Leg(1, steady))
    agent.run(1)
    assert 0 < agent.tested_us <= 600_000
    agent.run(199)
    assert agent.tested_us < 0.01 * 200_000_000


def test_tests_have_a_budget() -> None:
    """New connections all the time do not delay a capture all the time; each new capture allows a few more."""
    numbers = iter(range(1, 60_000))

    class Changing(Agent):
        def tick(self) -> None:
            self.legs = tuple(Leg(next(numbers), bursts(5, LOOP_SUSPICIOUS[0])) for _ in range(2))
            super().tick()

    agent = Changing()
    agent.run(20)
    assert agent.tests <= LOOP_TESTS[1] + 20 * LOOP_TESTS[2] + 1
    before = agent.tests
    agent.detector.capture_begins()
    agent.run(1)
    assert agent.tests > before


def test_a_test_has_an_end() -> None:
    """A loop test ends in time, or earlier when too many packets wait, and all of them are sent."""
    detector = LoopDetector(random.Random(1))
    detector.capture_begins()
    detector.saw(_START_US, [Busy(key(1), LOOP_SUSPICIOUS[0], 100, _START_US)])
    assert detector.begin(_START_US)
    assert detector.judge(_START_US, all_seen=False) == (Step.WAIT, ())
    late = _START_US + int(LOOP_TEST_TIME * 1_000_000)
    assert detector.judge(late, all_seen=False) == (Step.SEND_ALL, [])
    detector.saw(late, [Busy(key(2), LOOP_SUSPICIOUS[0], 100, late)])
    assert detector.begin(late)
    detector.withhold(LOOP_TEST_BYTES)
    assert detector.judge(late, all_seen=False) == (Step.SEND_ALL, [])
    assert not detector.testing


def test_only_so_many_connections_are_watched() -> None:
    """The one that has been silent for longest is forgotten."""
    detector = LoopDetector(random.Random(1))
    for number in range(2 * LOOP_SUSPECTS_MAX):
        detector.saw(_START_US, [Busy(key(number), 1, 100, _START_US)])
    assert (
        len(detector._suspects) == LOOP_SUSPECTS_MAX and key(2 * LOOP_SUSPECTS_MAX - 1) in detector._suspects
    )
