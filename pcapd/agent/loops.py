"""Detects connections that carry captured packets back to where they were captured.

The client of a capture may be connected to the api through a router, and the router's
machine may be captured.  Then each captured packet is sent through the router on the
client's connection, is captured there and sent again, and so on until the machine does
nothing else.  Neither api nor agent can know this connection in advance.

The traffic of such a connection is caused by the packets that this agent sends.  In a test,
the agent withholds the packets that it captures and continues to observe all connections.
Connections that are part of a loop become silent when the packets in flight have arrived;
other connections continue.  If none becomes silent, the test ends.

Otherwise the test continues in rounds.  At the beginning of each round the agent chooses at
random to send a few of the withheld packets or none.  A connection is part of a loop if it
carries packets in the rounds in which some were sent, and in no other round.  Traffic that
does not depend on the agent is very unlikely to do that.

The loop may lead through any number of hops, apis and captures, if it leads through this
agent.  No packet is lost: withheld packets are sent later.

This module does no input or output.  Times are microseconds since the epoch, by the clock
that the kernel uses for packet timestamps.
"""

from __future__ import annotations

import ipaddress
import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from pcapd.capture.exclusion import Connection
from pcapd.limits import (
    LOOP_IN_FLIGHT,
    LOOP_JITTER,
    LOOP_PATIENCE,
    LOOP_REST,
    LOOP_ROUND_TIME,
    LOOP_ROUNDS,
    LOOP_SILENCE,
    LOOP_SUSPECTS_MAX,
    LOOP_SUSPICIOUS,
    LOOP_TEST_BYTES,
    LOOP_TEST_TIME,
    LOOP_TESTS,
)
from pcapd.records import Busy

__all__ = ["LoopDetector", "Step"]

_SECOND = 1_000_000
#: A connection continues if, after the packets in flight have arrived, it has at least this many
#: packets and this fraction of its earlier rate.  Single packets may be delayed by a busy machine.
_GOES_ON = (3, 0.25)
#: Number of packets that a connection must have had for its silence to be significant.
_ENOUGH = 8
#: Number of successive rounds with sent packets after which a silent connection is not tested
#: further, if it had traffic in an earlier one: a busy machine may be slower than a round.
_MISSED_MAX = 2


class Step(Enum):
    """What to do next with the withheld packets."""

    WAIT = auto()  #: continue to withhold
    SEND_SOME = auto()
    SEND_ALL = auto()  #: the test is over


class _Verdict(Enum):
    OPEN = auto()
    SILENT = auto()  #: the connection became silent after the agent stopped sending
    GOES_ON = auto()  #: the connection continued


@dataclass
class _Suspect:
    """A connection that causes a large part of the captured traffic.

    It *moves* in a round if packets of it are captured.

    Attributes:
        last_us: Time of its last packet.
        packets, size: Number of its captured packets, and their bytes, since the first one or
            since its last test.
        tests: Number of tests that showed that it is not part of a loop.
        not_before_us: Earliest time of its next test.
        early, late: Numbers of its packets in the present round: those that may have been in
            flight when the round began, and later ones.
        moved: Number of rounds in which the agent sent something and the connection moved.
        rested: Number of rounds in which the agent sent nothing and the connection did not move.
        missed: Number of successive rounds in which it did not move although something was sent.
    """

    last_us: int
    packets: int = 0
    size: int = 0
    tests: int = 0
    not_before_us: int = 0
    early: int = 0
    late: int = 0
    moved: int = 0
    rested: int = 0
    missed: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether enough of its traffic was captured that it should be tested."""
        packets, size = LOOP_SUSPICIOUS
        return self.packets >= packets or self.size >= size

    @property
    def convicted(self) -> bool:
        """Whether it moved and rested with the agent in enough rounds to count as part of a loop."""
        return self.moved >= LOOP_ROUNDS and self.rested >= LOOP_ROUNDS

    def moves(self, now_us: int, latest_us: int) -> bool:
        """Whether it has enough recent traffic that becoming silent would be significant.

        Args:
            now_us: The time.
            latest_us: Time of the last packet of any connection; "recent" is relative to it, because
                a busy machine reads the rings late.
        """
        recent = latest_us - self.last_us <= LOOP_SILENCE * _SECOND
        return recent and self.packets >= _ENOUGH and now_us >= self.not_before_us

    @property
    def lost_interest(self) -> bool:
        """Whether it too often did not move after something was sent."""
        return self.missed >= (_MISSED_MAX if self.moved else 1)

    def verdict(self, now_us: int, turn: _Round) -> _Verdict:
        """Evaluate the connection in the present round so far."""
        in_flight_us = turn.in_flight_us(self)
        late_us = max(0, now_us - turn.begin_us - in_flight_us)
        if self.late >= max(_GOES_ON[0], _GOES_ON[1] * self.early * late_us / in_flight_us):
            return _Verdict.GOES_ON
        if turn.sent and self.last_us <= turn.begin_us and not late_us:
            return _Verdict.OPEN  # packets caused by the sent ones may be in flight
        quiet_us = now_us - max(self.last_us, turn.begin_us)
        return _Verdict.SILENT if quiet_us >= turn.silence_us else _Verdict.OPEN

    def begin_test(self) -> None:
        self.moved = self.rested = self.missed = 0

    def leave_alone(self, now_us: int) -> None:
        """Delay its next test, because its traffic does not depend on the agent."""
        rest = min(LOOP_REST[0] * 4**self.tests, LOOP_REST[1])
        self.not_before_us = now_us + int(rest * _SECOND)
        self.tests += 1
        self.packets = self.size = 0


@dataclass(frozen=True)
class _Round:
    """A part of a test.

    Attributes:
        begin_us: Time at which the round began.
        sent: Whether withheld packets were sent at that time.
        first: Whether this is the first round, in which packets sent before the test still arrive.
        silence_us: Time without packets after which a connection counts as silent.
        least_us: Shortest duration of the round.
    """

    begin_us: int = 0
    sent: bool = False
    first: bool = True
    silence_us: int = 0
    least_us: int = 0

    def in_flight_us(self, suspect: _Suspect) -> int:
        """Time for which packets of a suspect may be in flight after the beginning of this round.

        In a suspect's first test the time is short, so that captures without a loop are not
        delayed for long.
        """
        patient = suspect.tests or suspect.moved
        return int((LOOP_IN_FLIGHT[1] if patient else LOOP_IN_FLIGHT[0]) * _SECOND)


class LoopDetector:
    """Decides when to withhold packets, and which connections are part of a loop.

    Args:
        chance: Random numbers, which choose whether a round sends packets, and how long it lasts.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._suspects: OrderedDict[bytes, _Suspect] = OrderedDict()
        self._tested: dict[bytes, _Suspect] = {}
        self._test_us = 0
        self._round = _Round()
        self._slowest_us = 0
        self._withheld = 0
        self._budget = 0.0
        self._budget_us = 0
        #: Whether packets must be withheld.
        self.testing = False

    # --- observations ------------------------------------------------------

    def saw(self, now_us: int, busy: Iterable[Busy]) -> None:
        """Count the packets of the busiest connections of a batch."""
        for one in busy:
            suspect = self._suspects.setdefault(one.key, _Suspect(one.last_us))
            suspect.packets += one.packets
            suspect.size += one.size
            suspect.last_us = max(suspect.last_us, one.last_us)
            if one.last_us > self._round.begin_us + self._round.in_flight_us(suspect):
                suspect.late += one.packets
            else:
                suspect.early += one.packets
            self._suspects.move_to_end(one.key)
        while len(self._suspects) > LOOP_SUSPECTS_MAX:
            self._suspects.popitem(last=False)

    def capture_begins(self) -> None:
        """Allow for more tests, because a capture begins and may cause a loop."""
        self._budget = min(LOOP_TESTS[0], self._budget + LOOP_TESTS[1])

    def withhold(self, size: int) -> None:
        """Record that `size` more bytes are withheld."""
        self._withheld += size

    # --- tests -------------------------------------------------------------

    def begin(self, now_us: int) -> bool:
        """Begin a test if one is due and tests are not too frequent; return whether it has begun."""
        if not any(suspect.suspicious for _, suspect in self._moving(now_us)) or not self._may_test(now_us):
            return False
        self.testing, self._test_us, self._withheld, self._slowest_us = True, now_us, 0, 0
        self._tested = {}
        for suspect in self._suspects.values():
            suspect.begin_test()
        self._begin_round(now_us, first=True, sent=False)
        return True

    def judge(self, now_us: int, *, all_seen: bool) -> tuple[Step, Sequence[Connection]]:
        """Evaluate the test so far.

        Args:
            now_us: The time.
            all_seen: Whether all packets captured so far were read and passed to `saw`.

        Returns:
            The next step and, at the end of the test, the connections that are part of a loop.
        """
        self._tested.update(self._moving(now_us))
        if now_us - self._test_us >= LOOP_TEST_TIME * _SECOND or self._withheld >= LOOP_TEST_BYTES:
            return self._end(now_us)
        verdicts = {key: suspect.verdict(now_us, self._round) for key, suspect in self._tested.items()}
        lasted_us = now_us - self._round.begin_us
        is_open = not all_seen or _Verdict.OPEN in verdicts.values() or lasted_us < self._round.least_us
        if is_open and lasted_us < LOOP_ROUND_TIME * _SECOND:
            return Step.WAIT, ()
        for key, verdict in verdicts.items():
            self._note(key, verdict, now_us)
        if all(suspect.convicted for suspect in self._tested.values()):
            return self._end(now_us)
        self._begin_round(now_us, first=False, sent=self._choose_to_send())
        return Step.SEND_SOME if self._round.sent else Step.WAIT, ()

    def _moving(self, now_us: int) -> list[tuple[bytes, _Suspect]]:
        latest_us = max((suspect.last_us for suspect in self._suspects.values()), default=0)
        return [pair for pair in self._suspects.items() if pair[1].moves(now_us, latest_us)]

    def _note(self, key: bytes, verdict: _Verdict, now_us: int) -> None:
        """Record the result of a round for one connection; end its test if it is not part of a loop."""
        suspect, turn = self._tested[key], self._round
        moved = suspect.last_us > turn.begin_us
        if turn.sent:
            suspect.moved += moved
            suspect.missed = 0 if moved else suspect.missed + 1
            self._slowest_us = max(self._slowest_us, suspect.last_us - turn.begin_us)
        elif not turn.first:
            suspect.rested += not moved
        by_itself = moved and not (turn.sent or turn.first)
        if verdict is _Verdict.GOES_ON or by_itself or suspect.lost_interest:
            suspect.leave_alone(now_us)
            del self._tested[key]

    def _choose_to_send(self) -> bool:
        undecided = [suspect for suspect in self._tested.values() if not suspect.convicted]
        if any(suspect.missed or not suspect.moved for suspect in undecided):
            return True  # packets caused by the last sent ones may still be in flight
        if all(suspect.moved >= LOOP_ROUNDS for suspect in undecided):
            return False
        if all(suspect.rested >= LOOP_ROUNDS for suspect in undecided):
            return True
        return self._chance.random() < 0.5

    def _begin_round(self, now_us: int, *, first: bool, sent: bool) -> None:
        times, most = LOOP_PATIENCE
        silence = max(LOOP_SILENCE, min(most, times * self._slowest_us / _SECOND))
        least = silence + self._chance.uniform(0, LOOP_JITTER)
        self._round = _Round(now_us, sent, first, int(silence * _SECOND), int(least * _SECOND))
        for suspect in self._suspects.values():
            suspect.early = suspect.late = 0

    def _end(self, now_us: int) -> tuple[Step, Sequence[Connection]]:
        found = [key for key, suspect in self._tested.items() if suspect.convicted]
        for key in found:
            del self._tested[key]
            self._suspects.pop(key, None)
        for suspect in self._tested.values():
            suspect.leave_alone(now_us)
        self._tested, self.testing = {}, False
        return Step.SEND_ALL, [_connection(key) for key in found]

    def _may_test(self, now_us: int) -> bool:
        earned = max(0, now_us - (self._budget_us or now_us)) / _SECOND * LOOP_TESTS[2]
        self._budget, self._budget_us = min(LOOP_TESTS[0], self._budget + earned), now_us
        if self._budget < 1:
            return False
        self._budget -= 1
        return True


def _connection(key: bytes) -> Connection:
    size = (len(key) - 4) // 2
    a, b = key[: size + 2], key[size + 2 :]
    return Connection(
        ipaddress.ip_address(a[:size]),
        int.from_bytes(a[size:], "big"),
        ipaddress.ip_address(b[:size]),
        int.from_bytes(b[size:], "big"),
    )
