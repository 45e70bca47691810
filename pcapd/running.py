"""Measures the time in which a process ran, to judge the silence of its peers.  Pure.

SIGSTOP, a frozen machine or a blocked write stop a whole process.  Messages that its
peers sent meanwhile wait in its sockets, so the peers were not silent.
"""

from __future__ import annotations

from typing import Optional

__all__ = ["RunningTime"]


class RunningTime:
    """Counts seconds for an owner that reads a clock regularly, without the owner's pauses.

    Args:
        turn: The longest time in seconds between two calls of `at` without a pause.  A
            longer time counts as this long.
    """

    def __init__(self, turn: float) -> None:
        self._turn = turn
        self._looked: Optional[float] = None
        self._ran = 0.0

    def at(self, now: float) -> float:
        """The seconds so far.

        Args:
            now: Seconds of a monotonic clock.
        """
        if self._looked is not None:
            self._ran += min(max(0.0, now - self._looked), self._turn)
        self._looked = now
        return self._ran
