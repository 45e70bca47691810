"""The time limits of agents after STOP; agents that exceed them are disconnected."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from pcapd.api.capture.agentlink import AgentLink
from pcapd.errors import AgentUnavailable
from pcapd.limits import DRAIN_TIMEOUT, STOP_STALL_TIMEOUT, STOP_WATCH_INTERVAL

__all__ = ["StopWatch"]


class StopWatch:
    """Disconnects each agent that makes no progress, or takes too long.

    Time does not count while the client is too slow and the capture is therefore paused.

    Args:
        reactor: For time.
        links: Links that have not ended; the capture changes this list.
        excused: Returns whether the capture is paused.
    """

    def __init__(self, reactor: IReactorTime, links: list[AgentLink], excused: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._links = links
        self._excused = excused
        self._time_left = DRAIN_TIMEOUT
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def limit(self, seconds: float) -> None:
        """Reduce the remaining time to at most this number of seconds."""
        self._time_left = min(self._time_left, seconds)

    def start(self) -> None:
        """Start watching the agents, because STOP was sent to them."""
        self._looking.start(STOP_WATCH_INTERVAL, now=False)

    def stop(self) -> None:
        """Stop watching."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        if not self._excused():
            self._time_left -= STOP_WATCH_INTERVAL
            # If the process was suspended, the data that arrived meanwhile is read before the check.
            self._reactor.callLater(0, self._judge)

    def _judge(self) -> None:
        if self._excused():
            return
        for link in list(self._links):
            if self._time_left <= 0:
                link.give_up(AgentUnavailable("its capture did not end in time after the stop"))
            elif link.ran - link.progress.moved_at > STOP_STALL_TIMEOUT:
                message = f"its capture made no progress for {STOP_STALL_TIMEOUT:g} s after the stop"
                link.give_up(AgentUnavailable(message))
