"""Measures whether a peer still makes progress after STOP.  No clock: time is an argument."""

from __future__ import annotations

from pcapd.limits import STOP_STALL_BYTES

__all__ = ["Progress"]


class Progress:
    """Remembers when a peer last made progress: a whole message, or `limits.STOP_STALL_BYTES` bytes.

    A single byte is not progress, because a peer could send one byte per second for ever.

    Args:
        now: The time of creation, in seconds of a monotonic clock, as in all methods.

    Attributes:
        moved_at: Time of the last progress, in seconds of the same clock.
    """

    def __init__(self, now: float) -> None:
        self.moved_at = now
        self._bytes = 0

    def moved(self, now: float) -> None:
        """Record progress, or start the measurement again."""
        self.moved_at = now
        self._bytes = 0

    def received(self, count: int, now: float) -> None:
        """Record `count` received bytes."""
        self._bytes += count
        if self._bytes >= STOP_STALL_BYTES:
            self.moved(now)
