"""Time in which one ran, to judge others by.  Pure.

SIGSTOP, a frozen machine or a write that blocks stop a process as a whole.  What
others sent meanwhile waits in its sockets: their silence was not theirs.
"""

from __future__ import annotations

from typing import Optional

__all__ = ["RunningTime"]


class RunningTime:
    """Seconds of somebody who looks at a clock again and again, without pauses of their own.

    Args:
        turn: Seconds between two looks, at most, while nothing holds them up.  A longer
            time between two looks counts as this long.
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
