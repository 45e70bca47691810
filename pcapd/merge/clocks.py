"""Compares the clocks of two places, from packets that both saw.

A packet from a to b has, by the two clocks, a delay of *offset + way*; a packet from b
to a shows *offset - way*.  A way never takes negative time, so every packet from a to b
is an upper bound of the offset, and every packet back is a lower bound.  Over time the
offset is a line, because clocks run at constant rates for the time of a capture, and it
lies in the strip between the two sets of bounds.

The relevant bounds are the corners of a convex hull (Moon, Skelly and Towsley,
"Estimation and removal of clock skew from network delay measurements", INFOCOM 1999;
Zhang, Liu and Xia, "Clock synchronization algorithms for network measurements",
INFOCOM 2002).  The slope is that of the widest strip, and the line is its middle: exact
if the least delays of both ways are equal (as NTP assumes, RFC 5905), otherwise wrong by
half of their difference.  With any line in the strip, no packet arrives before it was
sent.
"""

from __future__ import annotations

from typing import Dict, Final, List, NamedTuple, Optional, Sequence, Set, Tuple

__all__ = ["Clock", "Pair", "align", "fit"]

#: A time in microseconds, and the time at b less the time at a.
Point = Tuple[int, int]
#: Places a and b, the least delays there, and the greatest differences of packets that travel back.
Pair = Tuple[int, int, Sequence[Point], Sequence[Point]]

#: The largest credible drift: 100 millionths are usual, virtual machines reach some more.
_DRIFT_MAX: Final = 500e-6
#: Times are whole microseconds, so the difference of two may be wrong by one.
_ROUNDING_US: Final = 1.0


class Clock(NamedTuple):
    """The offset of a clock from another one.

    Attributes:
        offset_us: Microseconds that it is ahead, at the time `at_us`.
        at_us: Microseconds since the epoch, by the other clock.
        drift: Microseconds that it gains per microsecond.
        error_us: The largest error of the offset, if the packets' times are right.
    """

    offset_us: float
    at_us: int
    drift: float
    error_us: float

    def offset(self, us: int) -> int:
        """The offset in microseconds at a time by the other clock."""
        return round(self.offset_us + self.drift * (us - self.at_us))

    def corrected(self, us: int) -> int:
        """A time by this clock, by the other one."""
        return self.at_us + round((us - self.at_us - self.offset_us) / (1 + self.drift))


def fit(there: Sequence[Point], back: Sequence[Point]) -> Optional[Clock]:
    """Compare the clock of b with that of a.

    Args:
        there: Points of packets from a to b.
        back: Points of packets from b to a.

    Returns:
        None if packets travelled one way only, or contradict each other: no line is below
        all of `there` and above all of `back`.
    """
    if not there or not back:
        return None
    at = (min(there[0][0], back[0][0]) + max(there[-1][0], back[-1][0])) // 2
    upper = _hull([(us - at, delta) for us, delta in sorted(there)], 1)
    lower = _hull([(us - at, delta) for us, delta in sorted(back)], -1)
    slopes = [0.0, *_slopes(upper), *_slopes(lower)]
    best: Optional[Tuple[float, float, float]] = None
    for slope in slopes:
        if abs(slope) <= _DRIFT_MAX:
            high = min(delta - slope * us for us, delta in upper)
            low = max(delta - slope * us for us, delta in lower)
            if best is None or high - low > best[0]:
                best = high - low, (high + low) / 2, slope
    if best is None or best[0] < -2 * _ROUNDING_US:
        return None
    width, middle, slope = best
    return Clock(middle, at, slope, max(0.0, width / 2) + _ROUNDING_US)


def align(places: int, pairs: Sequence[Pair]) -> List[Optional[Clock]]:
    """Compare the clock of each place with that of the first place to which it is connected.

    Of several paths, the one with the least error is used.

    Args:
        places: The number of places.
        pairs: The points between two places.

    Returns:
        For each place its clock; None if unknown.
    """
    edges: Dict[int, List[Tuple[int, Clock]]] = {}
    for a, b, there, back in pairs:
        clock = fit(there, back)
        if clock is not None:
            edges.setdefault(a, []).append((b, clock))
            edges.setdefault(b, []).append((a, _turned(clock)))
    found: List[Optional[Clock]] = [None] * places
    done: Set[int] = set()
    for first in sorted(edges):
        if first not in done:
            _spread(first, edges, found, done)
    return found


def _spread(
    first: int, edges: Dict[int, List[Tuple[int, Clock]]], found: List[Optional[Clock]], done: Set[int]
) -> None:
    """Compare all places that can be reached with the first one (Dijkstra's algorithm, by error)."""
    found[first] = Clock(0.0, edges[first][0][1].at_us, 0.0, 0.0)
    open_places = {first}
    while open_places:
        here = min(open_places, key=lambda place: (_error(found[place]), place))
        open_places.discard(here)
        done.add(here)
        own = found[here]
        assert own is not None
        for place, clock in edges[here]:
            if place not in done:
                sum_ = _joined(own, clock)
                if sum_.error_us < _error(found[place]):
                    found[place] = sum_
                open_places.add(place)


def _error(clock: Optional[Clock]) -> float:
    return float("inf") if clock is None else clock.error_us


def _joined(first: Clock, second: Clock) -> Clock:
    """The clock that `second` compares with one that `first` compares."""
    at = first.corrected(second.at_us)
    offset = first.offset_us + first.drift * (at - first.at_us)
    drift = first.drift + second.drift
    return Clock(offset + second.offset_us, at, drift, first.error_us + second.error_us)


def _turned(clock: Clock) -> Clock:
    return Clock(-clock.offset_us, clock.at_us + round(clock.offset_us), -clock.drift, clock.error_us)


def _hull(points: Sequence[Point], side: int) -> List[Point]:
    """The lower (1) or upper (-1) convex hull of points in order of time (Andrew 1979)."""
    hull: List[Point] = []
    for point in points:
        while len(hull) >= 2 and side * _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _turn(a: Point, b: Point, c: Point) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _slopes(hull: Sequence[Point]) -> List[float]:
    return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(hull, hull[1:]) if b[0] != a[0]]
