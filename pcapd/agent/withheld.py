"""Packets that a session holds back while the agent tests for loops (`pcapd.agent.loops`)."""

from __future__ import annotations

from collections import deque
from itertools import islice

from pcapd.limits import SNAPLEN_MAX
from pcapd.records import check, split

__all__ = ["Withheld"]


class Withheld:
    """Batches in capture order, each with the number of its source."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, bytes]] = deque()

    def __bool__(self) -> bool:
        return bool(self._batches)

    def add(self, number: int, payloads: list[bytes]) -> int:
        """Hold back batches of a source; returns their size in bytes."""
        self._batches.extend((number, payload) for payload in payloads)
        return sum(map(len, payloads))

    def clear(self) -> None:
        """Discard all batches."""
        self._batches.clear()

    def take(self) -> tuple[int, bytes]:
        """Take the first batch, with its source's number."""
        return self._batches.popleft()

    def take_some(self, size: int) -> tuple[int, bytes]:
        """Take about so many bytes of the first batch's packets, with their source's number."""
        number, payload = self._batches.popleft()
        first, rest = split(payload, size)
        if rest:
            self._batches.appendleft((number, rest))
        return number, first

    def earliest_us(self, number: int) -> int | None:
        """The time of the earliest packet of a source; None if it has none."""
        batches = (payload for withheld, payload in self._batches if withheld == number)
        # Batches are out of order by `limits.RING_DISORDER_US` at most, so that it is in one of the first.
        first = [check(payload, SNAPLEN_MAX).earliest_us for payload in islice(batches, 2)]
        return min(first, default=None)
