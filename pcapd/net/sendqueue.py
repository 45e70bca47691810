"""Bytes that wait to be sent, joined to pieces of the size of TLS records."""

from __future__ import annotations

from collections import deque

__all__ = ["RECORD", "SendQueue"]

RECORD = 16 * 1024  # bytes; the most that one TLS record holds
_JOIN = 4 * RECORD  # bytes; smaller pieces are joined: a copy costs less than another call


class SendQueue:
    """Pieces that wait to be sent, in order.

    Attributes:
        size: The number of waiting bytes.
        offered: Whether `head` was passed to OpenSSL without success.  OpenSSL then requires the same
            piece at the next call.
    """

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0
        self.offered = False

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, data: bytes | memoryview) -> None:
        """Append a piece."""
        self._pieces.append(data)
        self.size += len(data)

    def head(self) -> bytes | memoryview:
        """The next piece to send; small pieces are joined."""
        pieces = self._pieces
        if self.offered or len(pieces) == 1 or len(pieces[0]) >= _JOIN:
            return pieces[0]
        joined: list[bytes | memoryview] = []
        room = _JOIN
        while pieces and room:
            piece = pieces.popleft()
            if len(piece) >= _JOIN:  # fill up the last record with the beginning of the large piece
                room = -(room - _JOIN) % RECORD
            if len(piece) > room:
                view = memoryview(piece)
                pieces.appendleft(view[room:])
                piece = view[:room]
            joined.append(piece)
            room -= len(piece)
        pieces.appendleft(b"".join(joined))
        return pieces[0]

    def sent(self, count: int) -> None:
        """Remove the first `count` bytes of the head, because they were sent."""
        self.offered = False
        self.size -= count
        head = self._pieces[0]
        if count == len(head):
            self._pieces.popleft()
        else:
            self._pieces[0] = memoryview(head)[count:]

    def clear(self) -> None:
        """Discard all pieces."""
        self._pieces.clear()
