"""The messages of Wireshark's toolbar.  Pure.

A message is ``T``, 24 bits of length (big-endian), the number of the control, the
command, and the payload; the length counts what follows it.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import List, NamedTuple

from pcapd.errors import PcapdError

__all__ = ["ControlProblem", "Controls", "Kind", "Message", "encode", "text"]

_HEADER = struct.Struct(">cBHBB")
_COUNTED = 2  # bytes of the header that the length counts
#: bytes; Wireshark's own limits.
VALUE_MAX, LOG_MAX = 32767, 65535


class ControlProblem(PcapdError):
    """The other end of the pipe is not Wireshark."""


class Kind(IntEnum):
    """The kind of a message."""

    INITIALIZED = 0
    SET = 1
    ADD = 2
    REMOVE = 3
    ENABLE = 4
    DISABLE = 5
    STATUS_BAR = 6
    INFORMATION = 7
    WARNING = 8
    ERROR = 9


class Message(NamedTuple):
    """One message; an unknown kind is a number."""

    control: int
    kind: int
    payload: bytes = b""


def text(control: int, kind: Kind, content: str) -> Message:
    """A text message, cut to the length that Wireshark accepts."""
    limit = LOG_MAX if kind is Kind.ADD else VALUE_MAX
    return Message(control, kind, content.encode("utf-8", "replace")[:limit])


def encode(message: Message) -> bytes:
    """The message's bytes."""
    length = len(message.payload) + _COUNTED
    head = _HEADER.pack(b"T", length >> 16, length & 0xFFFF, message.control, message.kind)
    return head + message.payload


class Controls:
    """Parses the messages that Wireshark sends."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> List[Message]:
        """The complete messages, in order.

        Raises:
            ControlProblem: The data is not a message of Wireshark.
        """
        self._rest += data
        messages = []
        while len(self._rest) >= _HEADER.size:
            mark, high, low, control, kind = _HEADER.unpack_from(self._rest)
            length = high << 16 | low
            if mark != b"T" or not _COUNTED <= length <= LOG_MAX + _COUNTED:
                raise ControlProblem("the toolbar's pipe contains data that is not a message")
            end = _HEADER.size - _COUNTED + length
            if len(self._rest) < end:
                break
            messages.append(Message(control, kind, self._rest[_HEADER.size : end]))
            self._rest = self._rest[end:]
        return messages
