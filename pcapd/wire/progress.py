"""Whether a peer that was asked to stop still moves.  No clock: time is an argument."""

from __future__ import annotations

from pcapd.limits import STOP_STALL_BYTES

__all__ = ["Progress"]


class Progress:
    """Remembers when a peer moved last: by a whole message, or by enough bytes of one.

    A single byte is not a movement: a peer could send one a second for ever.

    Args:
        now: Seconds of a steady clock, as everywhere here.

    Attributes:
        moved_at: When it moved last.
    """

    def __init__(self, now: float) -> None:
        self.moved_at = now
        self._bytes = 0

    def moved(self, now: float) -> None:
        """It moved, or is to be judged from now on."""
        self.moved_at = now
        self._bytes = 0

    def received(self, count: int, now: float) -> None:
        """So many bytes came."""
        self._bytes += count
        if self._bytes >= STOP_STALL_BYTES:
            self.moved(now)
