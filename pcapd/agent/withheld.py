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
        """Append batches of a source; return their size in bytes."""
        self._batches.extend((number, payload) for payload in payloads)
        return sum(map(len, payloads))

    def clear(self) -> None:
        """Discard all batches."""
        self._batches.clear()

    def take(self) -> tuple[int, bytes]:
        """Remove the first batch and return it, after its source's number."""
        return self._batches.popleft()

    def take_some(self, size: int) -> tuple[int, bytes]:
        """Remove about `size` bytes of packets from the first batch; return the source's number and them."""
        number, payload = self._batches.popleft()
        first, rest = split(payload, size)
        if rest:
            self._batches.appendleft((number, rest))
        return number, first

    def earliest_us(self, number: int) -> int | None:
        """The time of the earliest withheld packet of a source, in microseconds; None if there is none."""
        batches = (payload for withheld, payload in self._batches if withheld == number)
        # Packets are out of order by `limits.RING_DISORDER_US` at most, so the earliest packet is in
        # one of the first two batches.
        first = [check(payload, SNAPLEN_MAX).earliest_us for payload in islice(batches, 2)]
        return min(first, default=None)
