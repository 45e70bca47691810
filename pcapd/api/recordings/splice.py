"""One pcapng file out of segments: which bytes of each segment it consists of.  Pure.

The segments of an epoch have the same interfaces, with the same numbers, and later ones may have more.
So of a segment that follows the previous one, only the part behind the headers that both have is needed: an
interface that was added later is described there.  Any other segment begins a new section.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pcapd.savefile.own import between

_LATEST_US = 2**63 - 1

__all__ = ["Part", "Stored", "Wanted", "cut_packets", "parts"]


@dataclass(frozen=True)
class Wanted:
    """The time that is wanted, in microseconds since the epoch; None for no limit."""

    from_us: int | None = None
    to_us: int | None = None

    def covers(self, first_us: int, last_us: int) -> bool:
        """Whether all packets between these times are wanted."""
        after = self.from_us is None or first_us >= self.from_us
        return after and (self.to_us is None or last_us <= self.to_us)

    def touches(self, first_us: int, last_us: int) -> bool:
        """Whether packets between these times may be wanted."""
        after = self.from_us is None or last_us >= self.from_us
        return after and (self.to_us is None or first_us <= self.to_us)


@dataclass(frozen=True)
class Stored:
    """What the index knows of a segment; times as in `pcapd.api.recordings.segments.Segment`."""

    epoch: int
    number: int
    first_us: int
    last_us: int
    size: int
    header_bytes: int
    packets: int


@dataclass(frozen=True)
class Part:
    """A part of a segment that belongs to the file.

    Attributes:
        start: Offset of its first byte in the segment.
        exact: Whether the part is needed as it is; otherwise `cut_packets` removes packets.
    """

    segment: Stored
    start: int
    exact: bool

    @property
    def size(self) -> int:
        """Its bytes, if it is exact."""
        return self.segment.size - self.start


def parts(segments: Sequence[Stored], wanted: Wanted) -> Iterator[Part]:
    """The parts of the file, in order.

    Args:
        segments: Segments in the order of epoch and number.
    """
    following: tuple[int, int] | None = None
    for segment in segments:
        if wanted.touches(segment.first_us, segment.last_us):
            start = segment.header_bytes if (segment.epoch, segment.number) == following else 0
            yield Part(segment, start, wanted.covers(segment.first_us, segment.last_us))
            following = segment.epoch, segment.number + 1


def cut_packets(data: bytes, wanted: Wanted) -> bytes:
    """The blocks of a segment without the packets outside the wanted time.

    Args:
        data: Whole blocks that pcapd wrote.
    """
    from_us = max(0, wanted.from_us or 0)
    to_us = _LATEST_US if wanted.to_us is None else max(0, wanted.to_us)
    return between(data, from_us, to_us)
