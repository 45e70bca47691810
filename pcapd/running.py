"""The time in which a process ran, by which it judges the silence of others.  Pure.

SIGSTOP, a frozen machine or a blocked write stop a process as a whole.  What its
peers sent meanwhile waits in its sockets, so they were not silent.
"""

from __future__ import annotations

from typing import Optional

__all__ = ["RunningTime"]


class RunningTime:
    """Counts seconds for an owner that looks at a clock again and again; its pauses do not count.

    Args:
        turn: Seconds between two looks, at most, while nothing holds the owner up.  A
            longer time between two looks counts as this long.
    """

    def __init__(self, turn: float) -> None:
        self._turn = turn
        self._looked: Optional[float] = None
        self._ran = 0.0

    def at(self, now: float) -> float:
        """Look: the seconds so far.

        Args:
            now: Seconds of any steady clock.
        """
        if self._looked is not None:
            self._ran += min(max(0.0, now - self._looked), self._turn)
        self._looked = now
        return self._ran
