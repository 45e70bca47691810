"""Reads bytes one field after the other, never beyond the end."""

from __future__ import annotations

__all__ = ["Cursor", "CutShort"]


class CutShort(Exception):
    """The message ends too early."""


class Cursor:
    """A position in a message, which advances.

    Args:
        data: The message.
        position: Where to begin.
    """

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            CutShort: There are not enough.
        """
        begin = self.position
        if begin + count > len(self.data):
            raise CutShort
        self.position = begin + count
        return self.data[begin : begin + count]

    def number(self, size: int) -> int:
        """The next bytes as a number in network order.

        Raises:
            CutShort: There are not enough.
        """
        return int.from_bytes(self.take(size), "big")
