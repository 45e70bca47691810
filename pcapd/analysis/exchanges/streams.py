"""One direction of a connection, in order, for a reader that skips what it does not need."""

from __future__ import annotations

import heapq
from typing import Final, List, NamedTuple, Tuple

__all__ = ["NEVER", "Piece", "Room", "Stream"]

#: What a reader answers that wants no more of a direction.
NEVER: Final = -1
#: Pieces that wait for one before them.  More are waiting only where the capture missed one.
_EARLY_MAX: Final = 1024


class Piece(NamedTuple):
    """What one packet brought.

    Attributes:
        us: Microseconds since the epoch.
        frame: Number of the packet.
        offset: Of its first byte in the direction.
        seq: Sequence number of that.
        length: Bytes that it had.
        content: Those that were captured.
    """

    us: int
    frame: int
    offset: int
    seq: int
    length: int
    content: bytes


class Room:
    """What all streams together may keep.

    Attributes:
        left: Bytes.
    """

    def __init__(self, left: int) -> None:
        self.left = left


class Stream:
    """Puts pieces in order.

    Args:
        room: For pieces that are early.

    Attributes:
        at: Offset that the reader wants next; `NEVER` when it wants no more.
    """

    def __init__(self, room: Room) -> None:
        self.at = 0
        self._room = room
        self._early: List[Tuple[int, int, Piece]] = []  # a heap, by offset
        self._count = 0

    def take(self, piece: Piece) -> int:
        """One piece; returns the offset from which on more is wanted."""
        if piece.offset > self.at:
            self._count += 1
            self._room.left -= len(piece.content)
            heapq.heappush(self._early, (piece.offset, self._count, piece))
            if len(self._early) <= _EARLY_MAX and self._room.left > 0:
                return self.at
            self.at = self.missed(self._early[0][0])
        else:
            self._read(piece)
        while self._early and (self.at == NEVER or self._early[0][0] <= self.at):
            _, _, early = heapq.heappop(self._early)
            self._room.left += len(early.content)
            self._read(early)
        return self.at

    def close(self) -> None:
        """There will be no more."""
        for _, _, piece in self._early:
            self._room.left += len(piece.content)
        self._early.clear()

    def _read(self, piece: Piece) -> None:
        if self.at != NEVER and piece.offset + piece.length > self.at:
            self.at = self.read(piece, max(0, self.at - piece.offset))

    def read(self, piece: Piece, begin: int) -> int:
        """Read a piece from the byte `begin` of it on; returns what is wanted next."""
        raise NotImplementedError

    def missed(self, offset: int) -> int:
        """Nobody captured what is before `offset`; returns what is wanted next."""
        return offset
