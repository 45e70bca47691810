"""A file that is read out of segments: its length, and its bytes from any offset."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from twisted.internet.defer import Deferred, succeed

from pcapd.api.recordings.splice import Stored, Wanted, cut_packets, parts
from pcapd.api.recordings.store import Extract, Store
from pcapd.api.recordings.tables import Clip
from pcapd.limits import FETCH_AHEAD, FETCH_PIECE

__all__ = ["File", "assemble", "clip_file", "clip_name", "object_name"]


def object_name(id: str, epoch: int, number: int) -> str:
    """The name of a segment's object."""
    return f"{id}/{epoch:04}/{number:08}.pcapng"


def clip_name(id: str, number: int) -> str:
    """The name of a clip's object."""
    return f"{id}/clips/{number:08}.pcapng"


@dataclass(frozen=True)
class _Extent:
    """Bytes of an object, or bytes that are here already."""

    name: str
    start: int
    size: int
    data: bytes | None = None


class File:
    """A file in the store.

    Args:
        close: Called once, when nothing more is read.

    Attributes:
        size: Its bytes.
        tag: Changes whenever bytes before its end may have changed (an HTTP entity tag).
    """

    def __init__(self, store: Store, extents: Sequence[_Extent], tag: str, close: Callable[[], None]) -> None:
        self._store = store
        self._extents = extents
        self.size = sum(extent.size for extent in extents)
        self.tag = tag
        self._close = close

    def close(self) -> None:
        """Handle that nothing more is read."""
        close, self._close = self._close, _nothing
        close()

    @property
    def extracts(self) -> list[Extract]:
        """What it consists of, for `Store.join`."""
        return [
            (extent.name, extent.start, extent.size) if extent.data is None else extent.data
            for extent in self._extents
        ]

    async def read(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes between two offsets, in pieces of at most `FETCH_PIECE`.

        While a piece is used, the next ones (`FETCH_AHEAD`) are read.

        Raises:
            StoreTrouble: The store failed, or a segment was deleted meanwhile.
        """
        coming: deque[Deferred[bytes]] = deque()
        try:
            for extent in self._between(start, self.size if end is None else end):
                coming.append(self._get(extent))
                if len(coming) > FETCH_AHEAD:
                    yield await coming.popleft()
            while coming:
                yield await coming.popleft()
        finally:
            for unwanted in coming:
                unwanted.addErrback(_ignored)

    def _between(self, start: int, end: int) -> Iterator[_Extent]:
        """The parts between two offsets."""
        position = 0
        for extent in self._extents:
            low, high = max(start, position), min(end, position + extent.size)
            while low < high:
                size = min(FETCH_PIECE, high - low)
                yield replace(extent, start=extent.start + low - position, size=size)
                low += size
            position += extent.size

    def _get(self, extent: _Extent) -> Deferred[bytes]:
        if extent.data is not None:
            return succeed(extent.data[extent.start : extent.start + extent.size])
        return self._store.get(extent.name, extent.start, extent.size)


async def assemble(
    store: Store, id: str, segments: Sequence[Stored], wanted: Wanted, close: Callable[[], None]
) -> File:
    """Make a file of the packets of a recording in a time.

    Args:
        close: Called when nothing more is read.

    Only the first and the last segment are read, if they are wanted in part.

    Raises:
        StoreTrouble: The store failed.
    """
    extents = []
    chosen = list(parts(segments, wanted))
    for part in chosen:
        segment = part.segment
        name = object_name(id, segment.epoch, segment.number)
        if part.exact:
            extents.append(_Extent(name, part.start, part.size))
        else:
            cut = partial(cut_packets, wanted=wanted)
            data = await store.get(name, part.start, part.size, cut)
            extents.append(_Extent(name, 0, len(data), data))
    first = chosen[0].segment if chosen else None
    tag = f"{id}-{first.epoch}-{first.number}-{wanted.from_us or 0}" if first is not None else id
    return File(store, [extent for extent in extents if extent.size], tag, close)


def clip_file(store: Store, clip: Clip) -> File:
    """The file of a clip that is stored."""
    name = clip_name(clip.recording, clip.number)
    return File(store, [_Extent(name, 0, clip.bytes)], f"{clip.recording}-clip-{clip.number}", _nothing)


def _nothing() -> None:
    """Replaces a function that must be called once only."""


def _ignored(_: object) -> None:
    """Nobody waits for it."""
