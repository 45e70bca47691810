"""Packets that a conversation holds back while the agent looks for loops (`pcapd.agent.loops`)."""

from __future__ import annotations

from collections import deque
from itertools import islice

from pcapd.limits import SNAPLEN_MAX
from pcapd.records import check, split

__all__ = ["Withheld"]


class Withheld:
    """Batches in the order in which they were captured, each with the number of its source."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, bytes]] = deque()

    def __bool__(self) -> bool:
        return bool(self._batches)

    def add(self, number: int, payloads: list[bytes]) -> int:
        """Hold back batches of a source; returns their bytes."""
        self._batches.extend((number, payload) for payload in payloads)
        return sum(map(len, payloads))

    def clear(self) -> None:
        """Forget all: nobody wants them."""
        self._batches.clear()

    def take(self) -> tuple[int, bytes]:
        """The first batch and its source's number."""
        return self._batches.popleft()

    def take_some(self, size: int) -> tuple[int, bytes]:
        """The first packets of the first batch, about so many bytes, and their source's number."""
        number, payload = self._batches.popleft()
        first, rest = split(payload, size)
        if rest:
            self._batches.appendleft((number, rest))
        return number, first

    def earliest_us(self, number: int) -> int | None:
        """Time of the earliest packet of a source; None without any."""
        batches = (payload for withheld, payload in self._batches if withheld == number)
        # Batches are out of order by `DISORDER_US` at most, so that it is in one of the first.
        first = [check(payload, SNAPLEN_MAX).earliest_us for payload in islice(batches, 2)]
        return min(first, default=None)
