"""Cuts the output of a muxer into segments, each a whole pcapng file.  Pure.

A segment begins with the headers of all interfaces that were opened so far, in the order in which
they were opened, and ends with the counters of all of them.  So the interfaces have the same numbers
in all segments, and a reader can leave out the headers that it has read before
(`pcapd.api.recordings.splice`).  Headers that no earlier segment has come after these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pcapd.api.recordings.splice import Stored
from pcapd.merge.muxer import HEADERS, Kind, Piece
from pcapd.savefile.blocks import own_times

__all__ = ["Segment", "Segmenter"]

_LARGE = 256 * 1024  # bytes


@dataclass(frozen=True)
class Segment:
    """A finished segment.

    Attributes:
        number: Its number, from 1 on.
        pieces: The whole file, in pieces: they were not joined, because that would copy them.
        header_bytes: Bytes of the headers at its beginning that the previous segment has too; of all
            headers in the first segment.
        first_us: Time of the earliest packet, microseconds since the epoch; of the end of the
            previous segment if there is none.
        last_us: The time up to which it is complete, microseconds since the epoch.
        packets: Number of packets.
        dropped: Number of packets that were lost up to its end, since the recording's start.
    """

    number: int
    pieces: tuple[bytes, ...]
    header_bytes: int
    first_us: int
    last_us: int
    packets: int
    dropped: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(map(len, self.pieces))

    @property
    def data(self) -> bytes:
        """The whole file, as a copy."""
        return b"".join(self.pieces)

    def described(self, epoch: int) -> Stored:
        """What the index knows of it."""
        return Stored(
            epoch, self.number, self.first_us, self.last_us, self.size, self.header_bytes, self.packets
        )


class Segmenter:
    """Collects pieces until a segment is full or old enough.

    Args:
        size: Bytes after which a segment ends.
        seconds: Seconds after which a segment ends that has packets.
        closing: Makes the statistics blocks that end a segment.
        first_us: The time at which the recording starts, microseconds since the epoch.
        number: Number of the first segment.
    """

    def __init__(
        self, size: int, seconds: float, closing: Callable[[], list[bytes]], first_us: int, number: int = 1
    ) -> None:
        self._size = size
        self._seconds = seconds
        self._closing = closing
        self._headers: list[bytes] = []
        self._names: list[bytes] = []
        self._known = 0, 0  # how many of both are in earlier segments
        self._number = number
        self._last_us = first_us
        self._clear()

    def _clear(self) -> None:
        self._blocks: list[bytes] = []
        self._spans: list[tuple[int, int]] = []  # times of the first and the last packet of a piece
        self._begin = b""  # the headers of the segment
        self._filled = 0
        self._packets = 0
        self._began: float | None = None

    @property
    def pending(self) -> int:
        """Bytes that are collected."""
        return self._filled

    def add(self, pieces: list[Piece], now: float, *, last: bool = False) -> bool:
        """Collect pieces; return whether the segment should end now.

        Statistics begin no segment, so that a recording without packets stores nothing.

        Args:
            now: Seconds of a monotonic clock.
            last: Whether the recording ends: then its statistics are kept in any case.
        """
        for piece in pieces:
            if piece.kind in HEADERS:
                headers = self._names if piece.kind is Kind.NAMES else self._headers
                headers.append(piece.data)
                if not self._blocks:
                    continue
            if piece.kind is Kind.STATISTICS and not self._blocks and not last:
                continue
            if self._began is None:
                self._began = now
                self._open()
            if piece.kind is Kind.PACKETS:
                self._spans.append(own_times(piece.data))
            self._blocks.append(piece.data)
            self._filled += len(piece.data)
            self._packets += piece.packets
        return self.due(now)

    def _open(self) -> None:
        headers, names = self._known if any(self._known) else (len(self._headers), len(self._names))
        self._begin = b"".join([*self._headers[:headers], *self._names[:names]])
        self._blocks = [*self._headers[headers:], *self._names[names:]]
        self._filled = sum(map(len, self._blocks))

    def due(self, now: float) -> bool:
        """Whether the segment should end now."""
        if self._began is None:
            return False
        return self._filled >= self._size or now - self._began >= self._seconds

    def finish(self, now_us: int, dropped: int) -> Segment | None:
        """End the segment; None if nothing was collected.

        Args:
            now_us: Microseconds since the epoch: the time up to which a segment without packets is complete.
            dropped: Number of packets that were lost so far.
        """
        if not self._blocks:
            return None
        first_us = min((first for first, _ in self._spans), default=self._last_us)
        last_us = max((last for _, last in self._spans), default=now_us)
        pieces = tuple(_joined([self._begin, *self._blocks, *self._closing()]))
        segment = Segment(self._number, pieces, len(self._begin), first_us, last_us, self._packets, dropped)
        self._number += 1
        self._known = len(self._headers), len(self._names)
        self._last_us = last_us
        self._clear()
        return segment


def _joined(blocks: list[bytes]) -> Iterator[bytes]:
    """Join small blocks, because a store writes each piece by itself; large ones are not copied."""
    small: list[bytes] = []
    for block in blocks:
        if len(block) < _LARGE:
            small.append(block)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield block
    if small:
        yield b"".join(small)
