"""The state of a conversation table for a place and for two places, in plain Python."""

from __future__ import annotations

from typing import Any, Final, List, Optional, Sequence, Tuple

from pcapd.analysis._facts import BETWEEN, SIGHTING, Between, Seen
from pcapd.analysis._halves import FollowedHalf

__all__ = ["BetweenPlaces", "Bins", "Sighting", "may_arrive"]

#: Number of intervals for the minimum delays, and the microseconds of the first one.
_BINS: Final = 256
_BIN_US: Final = 20_000
#: microseconds that a packet may be later at the other place than any packet before it.
_JITTER_US: Final = 50_000


class Sighting:
    __slots__ = (*Seen._fields, "halves")

    def __init__(self, place: int) -> None:
        self.place = place
        self.last_us = self.idle_from_us = self.idle_to_us = 0
        self.idle_count = self.idle_side = self.idle_frame = 0
        self.halves = (FollowedHalf(), FollowedHalf())

    def at(self, us: int, side: int, frame: int, idle_us: int) -> int:
        """Note a packet's time; returns the microseconds of silence before."""
        silence = us - self.last_us if self.last_us else 0
        if self.last_us and silence >= idle_us:
            self.idle_from_us, self.idle_to_us = self.last_us, us
            self.idle_count += 1
            self.idle_side, self.idle_frame = side, frame
        self.last_us = max(self.last_us, us)
        return silence

    def pack(self) -> bytes:
        own = SIGHTING.pack(*(getattr(self, field) for field in Seen._fields))
        return own + self.halves[0].pack() + self.halves[1].pack()


class BetweenPlaces:
    __slots__ = (*Between._fields, "last", "settled")

    only_first: int
    only_second: int
    since_first: int
    since_second: int
    lost_first_us: int
    frame_first: int
    frame_second: int

    def __init__(self) -> None:
        for field in Between._fields:
            setattr(self, field, 0)
        self.settled = False
        self.last: Optional[int] = None

    def confirm(self) -> None:
        """A packet was seen at both places, so that those before it should have been."""
        self.only_first += self.since_first
        self.only_second += self.since_second
        self.since_first = self.since_second = 0

    def miss(self, seen: Tuple[int, int, bool, int], *, at_first: bool) -> None:
        """A packet was seen at one place only; see `pcapd.analysis._conversation.Waiting`."""
        _, us, _, frame = seen
        self.lost_first_us = self.lost_first_us or us
        self.lost_last_us = us
        if at_first:
            self.since_first += 1
            self.frame_first = self.frame_first or frame
        else:
            self.since_second += 1
            self.frame_second = self.frame_second or frame

    def pack(self) -> bytes:
        return BETWEEN.pack(*(getattr(self, field) for field in Between._fields))


def may_arrive(pair: Sequence[Any], age: int) -> bool:
    """Whether a packet of an age in microseconds may still come to the other place, by the delays so far."""
    return bool(age <= max(max(abs(own.least_us), abs(own.greatest_us)) for own in pair) + _JITTER_US)


class Bins:
    """The minimum delays between two places in each direction, over time."""

    def __init__(self, us: int) -> None:
        self.start, self.width = us, _BIN_US
        self.there: List[Optional[Tuple[int, int]]] = [None] * _BINS
        self.back: List[Optional[Tuple[int, int]]] = [None] * _BINS

    def add(self, us: int, delta: int, *, there: bool) -> None:
        index = max(0, us - self.start) // self.width
        while index >= _BINS:
            self._halve()
            index //= 2
        bins = self.there if there else self.back
        best = bins[index]
        if best is None or (delta < best[1] if there else delta > best[1]):
            bins[index] = us, delta

    def _halve(self) -> None:
        self.width *= 2
        for bins, least in ((self.there, True), (self.back, False)):
            for index in range(_BINS // 2):
                pair = [one for one in bins[2 * index : 2 * index + 2] if one is not None]
                best = None
                for one in pair:
                    if best is None or (one[1] < best[1] if least else one[1] > best[1]):
                        best = one
                bins[index] = best
            bins[_BINS // 2 :] = [None] * (_BINS // 2)
