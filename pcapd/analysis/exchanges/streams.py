"""Orders one direction of a connection, for a reader that skips what it does not need."""

from __future__ import annotations

import heapq
from typing import Final, List, NamedTuple, Tuple

__all__ = ["NEVER", "Piece", "Room", "Stream"]

#: The return value of a reader that wants no more of a direction.
NEVER: Final = -1
#: Limit of pieces that wait for an earlier one; more wait only if the capture missed one.
_EARLY_MAX: Final = 1024


class Piece(NamedTuple):
    """The payload of one packet.

    Attributes:
        us: Microseconds since the epoch.
        frame: Number of the packet.
        offset: Offset of its first byte in the direction.
        seq: Sequence number of its first byte.
        length: Original number of bytes.
        content: The captured bytes.
    """

    us: int
    frame: int
    offset: int
    seq: int
    length: int
    content: bytes


class Room:
    """The memory that all streams share.

    Attributes:
        left: Remaining bytes.
    """

    def __init__(self, left: int) -> None:
        self.left = left


class Stream:
    """Puts pieces in order.

    Args:
        room: Memory for early pieces.

    Attributes:
        at: Offset that the reader wants next; `NEVER` if it wants no more.
    """

    __slots__ = ("_count", "_early", "_room", "at")

    def __init__(self, room: Room) -> None:
        self.at = 0
        self._room = room
        self._early: List[Tuple[int, int, Piece]] = []  # a heap, by offset
        self._count = 0

    def take(self, piece: Piece) -> int:
        """Process a piece; returns the offset from which on more is wanted."""
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
        """Process the end of the direction."""
        for _, _, piece in self._early:
            self._room.left += len(piece.content)
        self._early.clear()

    def _read(self, piece: Piece) -> None:
        if self.at != NEVER and piece.offset + piece.length > self.at:
            self.at = self.read(piece, max(0, self.at - piece.offset))

    def read(self, piece: Piece, begin: int) -> int:
        """Read a piece from its byte `begin` on; returns the offset wanted next."""
        raise NotImplementedError

    def missed(self, offset: int) -> int:
        """Skip bytes before `offset` that were not captured; returns the offset wanted next."""
        return offset
