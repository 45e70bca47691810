"""What of a recording is kept: a ring by time and size.  Pure."""

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
        segments: Those that exist already.
        keep: Seconds of packets to keep; None for all.
        keep_bytes: Bytes to keep; None for all.
    """

    def __init__(self, segments: Iterable[Stored], keep: float | None, keep_bytes: int | None) -> None:
        self._segments = deque(segments)
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._bytes = sum(segment.size for segment in self._segments)

    def add(self, segment: Stored, held_from_us: int | None = None) -> list[Stored]:
        """Add a segment; return those that are not kept any longer.

        Args:
            held_from_us: Packets from this time on are needed for a clip, microseconds since the epoch.
        """
        self._segments.append(segment)
        self._bytes += segment.size
        dropped: list[Stored] = []
        while len(self._segments) > 1 and self._too_much() and not self._held(held_from_us):
            dropped.append(self._segments.popleft())
            self._bytes -= dropped[-1].size
        return dropped

    def _held(self, from_us: int | None) -> bool:
        return from_us is not None and self._segments[0].last_us >= from_us

    def _too_much(self) -> bool:
        if self._keep_bytes is not None and self._bytes > self._keep_bytes:
            return True
        if self._keep is None:
            return False
        # The oldest may go if the others cover the whole time.
        return self._segments[-1].last_us - self._segments[1].first_us >= self._keep * _MICROS
