"""Compares the clocks of two places, from packets that were captured at both.

For each packet, take its timestamp at b minus its timestamp at a.  This difference is
*offset + delay* for a packet from a to b, and *offset - delay* for a packet from b to a.  A
delay is never negative, so every packet from a to b gives an upper bound of the offset, and
every packet from b to a gives a lower bound.  The clocks run at constant rates for the time
of a capture, so the offset over time is a straight line.  It lies in the strip between the
upper and the lower bounds.

The bounds that limit the line are the corners of a convex hull (Moon, Skelly and Towsley,
"Estimation and removal of clock skew from network delay measurements", INFOCOM 1999;
Zhang, Liu and Xia, "Clock synchronization algorithms for network measurements",
INFOCOM 2002).  The line used is the middle of the strip with the slope at which it is widest.
The line is exact if the least delays of both directions are equal (as NTP assumes, RFC
5905); otherwise it is wrong by half of their difference.  With any line in the strip, no
packet arrives before it was sent.
"""

from __future__ import annotations

from typing import Dict, Final, List, NamedTuple, Optional, Sequence, Set, Tuple

__all__ = ["Clock", "Pair", "align", "fit"]

#: A packet's timestamp at a in microseconds, and its timestamp at b minus that at a.
Point = Tuple[int, int]
#: Numbers of the places a and b; points of packets from a to b; points of packets from b to a.
Pair = Tuple[int, int, Sequence[Point], Sequence[Point]]

#: The largest credible drift: 100e-6 is usual, and clocks of virtual machines drift somewhat more.
_DRIFT_MAX: Final = 500e-6
#: Times are whole microseconds, so the difference of two times may be wrong by one.
_ROUNDING_US: Final = 1.0


class Clock(NamedTuple):
    """The offset of a clock from another one.

    Attributes:
        offset_us: Microseconds by which this clock is ahead of the other one at the time `at_us`.
        at_us: Microseconds since the epoch, by the other clock.
        drift: Microseconds that this clock gains per microsecond of the other one.
        error_us: The largest error of the offset in microseconds, if timestamps are taken without delay.
    """

    offset_us: float
    at_us: int
    drift: float
    error_us: float

    def offset(self, us: int) -> int:
        """The offset in microseconds at `us`, a time by the other clock."""
        return round(self.offset_us + self.drift * (us - self.at_us))

    def corrected(self, us: int) -> int:
        """Convert a time by this clock to the other clock."""
        return self.at_us + round((us - self.at_us - self.offset_us) / (1 + self.drift))


def fit(there: Sequence[Point], back: Sequence[Point]) -> Optional[Clock]:
    """Compare the clock of b with that of a.

    Args:
        there: Points of packets from a to b.
        back: Points of packets from b to a.

    Returns:
        None if there are packets in one direction only, or if they contradict each other: no
        line is below all points of `there` and above all points of `back`.
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
        pairs: The points of each two places that captured the same packets.

    Returns:
        For each place, its clock compared with that of the first place; None if unknown.
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
    """Compare each place that is connected to the first one with it (Dijkstra, smallest error)."""
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
    """Add two offsets: `second` is relative to the clock that `first` describes."""
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
