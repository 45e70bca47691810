"""Runs `pcapd.agent.loops` on the reactor, to stop captures that capture each other's traffic."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pcapd.agent.loops import LoopDetector, Step
from pcapd.capture.exclusion import Connection
from pcapd.limits import (
    EXCLUDED_CONNECTIONS_MAX,
    EXCLUSION_TIME,
    LOOP_JUDGE_INTERVAL,
    LOOP_LOOK_INTERVAL,
    LOOP_PULSE,
)
from pcapd.net.clock import now_us
from pcapd.records import busiest

__all__ = ["Feedback", "Feeding"]

_LOOK_INTERVAL_US = int(LOOP_LOOK_INTERVAL * 1_000_000)


class Feeding(Protocol):
    """A session whose captures may be part of a loop."""

    def look(self) -> bool:
        """Read the packets captured so far; return False if some cannot be read now."""

    def release_some(self, size: int) -> None:
        """Send about `size` bytes of the oldest withheld packets, and the counters."""

    def release(self) -> None:
        """Send all withheld packets."""

    def exclude(self, connections: Sequence[Connection], new: Connection | None) -> None:
        """Do not capture these connections, and notify the user of the new one."""


class Feedback:
    """Watches all captures of an agent for loops.

    Args:
        reactor: For time.
        sessions: The agent's sessions.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, sessions: Iterable[Feeding]) -> None:
        self._sessions = sessions
        self._detector = LoopDetector(random.SystemRandom())
        self._judge = LoopingCall(self._look)
        self._judge.clock = reactor
        self._first_look = False
        self._reactor = reactor
        self._excluded: OrderedDict[Connection, Any] = OrderedDict()

    @property
    def withholding(self) -> bool:
        """Whether packets captured now must be withheld."""
        return self._detector.testing

    @property
    def excluded(self) -> Sequence[Connection]:
        """The excluded connections."""
        return tuple(self._excluded)

    def capture_begins(self) -> None:
        """Record that a capture begins."""
        self._detector.capture_begins()

    def withhold(self, size: int) -> None:
        """Record that `size` more bytes are withheld."""
        self._detector.withhold(size)

    def saw(self, packets: bytes, meta: bytes, link_type: int, before_us: int, last_us: int) -> int:
        """Inspect a batch, unless a batch of the source was inspected a moment ago.

        Args:
            packets, meta: The batch: packets and their index (`pcapd.records.pack`).
            link_type: LINKTYPE of the packets.
            before_us: Time of the last packet of the batch that was inspected last, microseconds.
            last_us: Time of the last packet of this batch, microseconds.

        Returns:
            `last_us` if this batch was inspected, else `before_us`.
        """
        if not self.withholding and 0 <= last_us - before_us < _LOOK_INTERVAL_US:
            return before_us
        _, _, busy = busiest(packets, meta, link_type)
        now = now_us()
        self._detector.saw(now, busy)
        if not self.withholding and self._detector.begin(now):
            self._judge.start(LOOP_JUDGE_INTERVAL, now=False)
            self._first_look = True
        return last_us

    def stop(self) -> None:
        """Stop all timers."""
        if self._judge.running:
            self._judge.stop()
        for timer in self._excluded.values():
            timer.cancel()
        self._excluded.clear()

    def _look(self) -> None:
        if self._first_look:
            self._first_look = False
            self._send_some(0)
        looked = [session.look() for session in list(self._sessions)]
        step, loops = self._detector.judge(now_us(), all_seen=all(looked))
        if step is Step.SEND_SOME:
            self._send_some(LOOP_PULSE)
        elif step is Step.SEND_ALL:
            self._judge.stop()
            for connection in loops:
                self._exclude(connection)
            for session in list(self._sessions):
                session.release()

    def _send_some(self, size: int) -> None:
        for session in list(self._sessions):
            session.release_some(size)

    def _exclude(self, connection: Connection) -> None:
        self.log.warn(
            "{connection} carries captured packets back to this machine: it is not captured for {seconds} s",
            connection=str(connection),
            seconds=int(EXCLUSION_TIME),
        )
        while len(self._excluded) >= EXCLUDED_CONNECTIONS_MAX:
            _, timer = self._excluded.popitem(last=False)
            timer.cancel()
        self._excluded[connection] = self._reactor.callLater(EXCLUSION_TIME, self._include, connection)
        self._apply_exclusions(connection)

    def _include(self, connection: Connection) -> None:
        del self._excluded[connection]
        self._apply_exclusions(None)

    def _apply_exclusions(self, new: Connection | None) -> None:
        for session in list(self._sessions):
            session.exclude(self.excluded, new)
