"""The packet rate of each place over time."""

from __future__ import annotations

from typing import Dict, Final, List, Optional, Tuple

from pcapd.packet.row import SIGHTINGS

__all__ = ["Timeline"]

#: Number of intervals; when there are more, pairs are merged.
_BINS: Final = 240
#: microseconds of an interval at first.
_WIDTH_US: Final = 10_000


class Timeline:
    """Counts packets per interval.

    Attributes:
        start_us: Start of the first interval; None without packets.
        width_us: Length of an interval.
    """

    def __init__(self) -> None:
        self.start_us: Optional[int] = None
        self.width_us = _WIDTH_US
        self._counts: Dict[int, Dict[int, int]] = {}  # by place and interval

    def add(self, rows: bytes) -> None:
        """Count packets; see `pcapd.packet.row`."""
        for us, place, _, _ in SIGHTINGS.iter_unpack(rows):
            if self.start_us is None:
                self.start_us = us
            index = max(0, us - self.start_us) // self.width_us
            while index >= _BINS:
                self._widen()
                index //= 2
            own = self._counts.setdefault(place, {})
            own[index] = own.get(index, 0) + 1

    def rates(self, place: int) -> List[Tuple[int, float]]:
        """The start of each interval and its packets per second, for a place."""
        own = self._counts.get(place, {})
        begin = self.start_us or 0
        last = max(own, default=-1)
        return [
            (begin + index * self.width_us, own.get(index, 0) * 1e6 / self.width_us)
            for index in range(last + 1)
        ]

    def _widen(self) -> None:
        self.width_us *= 2
        for place, own in self._counts.items():
            joined: Dict[int, int] = {}
            for index, count in own.items():
                joined[index // 2] = joined.get(index // 2, 0) + count
            self._counts[place] = joined
