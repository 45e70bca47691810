"""Reads a message one field after the other, never beyond its end."""

from __future__ import annotations

__all__ = ["Cursor", "CutShort"]


class CutShort(Exception):
    """The message ends too early."""


class Cursor:
    """A position in a message, which advances.

    Args:
        data: The message.
        position: Offset of the first byte to read.
    """

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        """Read the next bytes.

        Raises:
            CutShort: There are fewer bytes.
        """
        begin = self.position
        if begin + count > len(self.data):
            raise CutShort
        self.position = begin + count
        return self.data[begin : begin + count]

    def number(self, size: int) -> int:
        """Read the next bytes as a number in network byte order.

        Raises:
            CutShort: There are fewer bytes.
        """
        return int.from_bytes(self.take(size), "big")
