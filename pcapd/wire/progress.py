"""Whether a peer that was asked to stop still makes progress.  No clock: time is an argument."""

from __future__ import annotations

from pcapd.limits import STOP_STALL_BYTES

__all__ = ["Progress"]


class Progress:
    """Remembers when a peer last made progress: by a whole message, or enough bytes of one.

    A single byte is not progress: a peer could send one per second for ever.

    Args:
        now: Seconds of a monotonic clock, as in all methods.

    Attributes:
        moved_at: When it last made progress.
    """

    def __init__(self, now: float) -> None:
        self.moved_at = now
        self._bytes = 0

    def moved(self, now: float) -> None:
        """Note progress now; also the start of the measurement."""
        self.moved_at = now
        self._bytes = 0

    def received(self, count: int, now: float) -> None:
        """Note so many received bytes."""
        self._bytes += count
        if self._bytes >= STOP_STALL_BYTES:
            self.moved(now)
