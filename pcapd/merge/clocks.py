"""How far the clocks of two places are apart, from packets that both saw.

A packet that travels from a to b has, by the two clocks, a delay of *offset + way*; one
that travels back shows *offset - way*.  No way takes less than no time, so every packet
there is an upper bound of the offset, and every packet back is a lower one.  Over time
the offset is a line, because clocks run at constant rates as long as a capture
lasts, and it lies in the strip between the two sets of bounds.

The bounds that count are the corners of a convex hull (Moon, Skelly and Towsley,
"Estimation and removal of clock skew from network delay measurements", INFOCOM 1999;
Zhang, Liu and Xia, "Clock synchronization algorithms for network measurements",
INFOCOM 2002).  The line's slope is the one with the widest strip, and the line is the
middle of it: right where the least delays of both ways are equal (as NTP has it,
RFC 5905), and else wrong by half of what they differ.  No line in the strip lets a packet
arrive before it was sent.
"""

from __future__ import annotations

from typing import Dict, Final, List, NamedTuple, Optional, Sequence, Set, Tuple

__all__ = ["Clock", "Pair", "align", "fit"]

#: A time in microseconds, and the time at b less the time at a.
Point = Tuple[int, int]
#: Places a and b, the least delays there, and the greatest differences of packets that travel back.
Pair = Tuple[int, int, Sequence[Point], Sequence[Point]]

#: Quartz that is off by more is broken: 100 millionths are usual, virtual machines reach some more.
_DRIFT_MAX: Final = 500e-6
#: Times are whole microseconds, so that the difference of two may be wrong by one.
_ROUNDING_US: Final = 1.0


class Clock(NamedTuple):
    """How far a clock is ahead of another one.

    Attributes:
        offset_us: At the time `at_us`.
        at_us: Microseconds since the epoch, by the other clock.
        drift: Microseconds that it gains in a microsecond.
        error_us: How much the offset may be wrong at most, if the packets say the truth.
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
    """The clock of b, compared with that of a.

    Args:
        there: Of packets that travel from a to b.
        back: Of packets that travel from b to a.

    Returns:
        None when packets travelled one way only, or when they contradict each other: no
        line is below all of `there` and above all of `back`.
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
    """The clock of each place, compared with that of the first one that it can be compared with.

    Where several ways lead there, the one with the least error counts.

    Args:
        places: How many.
        pairs: What was seen between two of them.

    Returns:
        None for a place that nothing is known of.
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
    """Compare all that can be reached with the first one (Dijkstra's way, by error)."""
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
