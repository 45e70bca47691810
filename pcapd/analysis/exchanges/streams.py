"""One direction of a connection, in order, for a reader that skips what it does not need."""

from __future__ import annotations

from typing import Dict, Final, List, NamedTuple

__all__ = ["NEVER", "Piece", "Stream"]

#: What a reader answers that wants no more of a direction.
NEVER: Final = -1
#: Pieces that wait for one before them.  More are waiting only where the capture missed one.
_EARLY_MAX: Final = 64


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


class Stream:
    """Puts pieces in order.

    Attributes:
        at: Offset that the reader wants next; `NEVER` when it wants no more.
    """

    def __init__(self) -> None:
        self.at = 0
        self._early: Dict[int, Piece] = {}

    def take(self, piece: Piece) -> int:
        """One piece; returns the offset from which on more is wanted."""
        if piece.offset > self.at:
            self._early[piece.offset] = piece
            if len(self._early) <= _EARLY_MAX:
                return self.at
            self.at = self.missed(min(self._early))
        else:
            self._read(piece)
        while self._early and self.at != NEVER:
            ready = [offset for offset in self._early if offset <= self.at]
            if not ready:
                break
            for offset in sorted(ready):
                self._read(self._early.pop(offset))
        if self.at == NEVER:
            self._early.clear()
        return self.at

    def _read(self, piece: Piece) -> None:
        if self.at != NEVER and piece.offset + piece.length > self.at:
            self.at = self.read(piece, max(0, self.at - piece.offset))

    def read(self, piece: Piece, begin: int) -> int:
        """Read a piece from the byte `begin` of it on; returns what is wanted next."""
        raise NotImplementedError

    def missed(self, offset: int) -> int:
        """Nobody captured what is before `offset`; returns what is wanted next."""
        return offset


def joined(parts: List[bytes]) -> bytes:
    """Parts as one."""
    return parts[0] if len(parts) == 1 else b"".join(parts)
