"""What of a recording is kept: a ring by time and size.  Pure.

The age of a segment is measured with a monotonic clock, so that a clock that is set deletes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pcapd.api.recordings.splice import Stored

__all__ = ["Ring"]

_MICROS = 1_000_000


class Ring:
    """The segments of one running recording, oldest first.

    The newest segment is always kept.

    Args:
        keep: Seconds of packets to keep; None for all.
        keep_bytes: Bytes to keep; None for all.
    """

    def __init__(self, keep: float | None, keep_bytes: int | None) -> None:
        self._segments: deque[tuple[float, Stored]] = deque()  # with the time of the last packet
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._bytes = 0

    def restore(self, segments: Iterable[Stored], now: float, now_us: int) -> None:
        """Add the segments of an earlier process.

        Args:
            now: Seconds of the monotonic clock.
            now_us: The same time, microseconds since the epoch.
        """
        for segment in segments:
            self._append(segment, now - max(0, now_us - segment.last_us) / _MICROS)

    def add(self, segment: Stored, now: float, held_from_us: int | None = None) -> list[Stored]:
        """Add a segment that ends now; return those that are not kept any longer (`expired`)."""
        self._append(segment, now)
        return self.expired(now, held_from_us)

    def expired(self, now: float, held_from_us: int | None = None) -> list[Stored]:
        """Forget the segments that are not kept any longer, and return them.

        Args:
            held_from_us: Packets from this time on are needed for a clip, microseconds since the epoch.
        """
        dropped: list[Stored] = []
        while len(self._segments) > 1 and self._too_much(now) and not self._held(held_from_us):
            dropped.append(self._segments.popleft()[1])
            self._bytes -= dropped[-1].size
        return dropped

    def _append(self, segment: Stored, ended: float) -> None:
        self._segments.append((ended, segment))
        self._bytes += segment.size

    def _held(self, from_us: int | None) -> bool:
        return from_us is not None and self._segments[0][1].last_us >= from_us

    def _too_much(self, now: float) -> bool:
        if self._keep_bytes is not None and self._bytes > self._keep_bytes:
            return True
        # Only a segment without a packet that is wanted may go.
        return self._keep is not None and now - self._segments[0][0] >= self._keep
