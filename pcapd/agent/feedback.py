"""Keep an agent's captures from feeding each other: `pcapd.agent.loops` on the reactor."""

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
from pcapd.limits import EXCLUDED_CONNECTIONS_MAX, EXCLUSION_TIME, LOOP_PULSE
from pcapd.net.clock import now_us
from pcapd.records import busiest

__all__ = ["Feedback", "Feeding"]

#: Microseconds of captured time between two looks at a source while there is nothing to find.
_LOOK_INTERVAL_US = 5000
_JUDGE_INTERVAL = 0.005  # seconds between looks during a test


class Feeding(Protocol):
    """A conversation with an api, whose captures may feed each other."""

    def look(self) -> bool:
        """Read what was captured until now; False when some of it cannot be read."""

    def release_some(self, size: int) -> None:
        """Send the first of the withheld packets, about so many bytes, and the counters."""

    def release(self) -> None:
        """Send all that was withheld."""

    def exclude(self, connections: Sequence[Connection], new: Connection | None) -> None:
        """Capture these connections no more; the user shall know of the new one."""


class Feedback:
    """Watches all captures of an agent.

    Args:
        reactor: For time.
        feeding: The agent's conversations.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, feeding: Iterable[Feeding]) -> None:
        self._feeding = feeding
        self._detector = LoopDetector(random.SystemRandom())
        self._judge = LoopingCall(self._look)
        self._judge.clock = reactor
        self._first_look = False
        self._reactor = reactor
        self._excluded: OrderedDict[Connection, Any] = OrderedDict()

    @property
    def withholding(self) -> bool:
        """Whether what is captured now is to be sent later."""
        return self._detector.testing

    @property
    def excluded(self) -> Sequence[Connection]:
        """Connections that are captured no more."""
        return tuple(self._excluded)

    def capture_begins(self) -> None:
        """A capture begins."""
        self._detector.capture_begins()

    def withhold(self, size: int) -> None:
        """Note that so many bytes more are being withheld."""
        self._detector.withhold(size)

    def saw(self, packets: bytes, meta: bytes, link_type: int, before_us: int, last_us: int) -> int:
        """Look at a batch, unless the source was looked at a moment ago.

        Args:
            packets, meta: As libpcap delivered them.
            before_us: When the source was looked at last.
            last_us: Time of the batch's last packet.

        Returns:
            When it was looked at last.
        """
        if not self.withholding and 0 <= last_us - before_us < _LOOK_INTERVAL_US:
            return before_us
        _, _, busy = busiest(packets, meta, link_type)
        now = now_us()
        self._detector.saw(now, busy)
        if not self.withholding and self._detector.begin(now):
            self._judge.start(_JUDGE_INTERVAL, now=False)
            self._first_look = True
        return last_us

    def stop(self) -> None:
        """Leave nothing running."""
        if self._judge.running:
            self._judge.stop()
        for timer in self._excluded.values():
            timer.cancel()
        self._excluded.clear()

    def _look(self) -> None:
        if self._first_look:
            self._first_look = False
            self._send_some(0)
        looked = [conversation.look() for conversation in list(self._feeding)]
        step, loops = self._detector.judge(now_us(), all_seen=all(looked))
        if step is Step.SEND_SOME:
            self._send_some(LOOP_PULSE)
        elif step is Step.SEND_ALL:
            self._judge.stop()
            for connection in loops:
                self._exclude(connection)
            for conversation in list(self._feeding):
                conversation.release()

    def _send_some(self, size: int) -> None:
        for conversation in list(self._feeding):
            conversation.release_some(size)

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
        self._tell(connection)

    def _include(self, connection: Connection) -> None:
        del self._excluded[connection]
        self._tell(None)

    def _tell(self, new: Connection | None) -> None:
        for conversation in list(self._feeding):
            conversation.exclude(self.excluded, new)
