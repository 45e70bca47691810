"""Splits a server's WebSocket stream into messages without copying (RFC 6455, section 5.2).

wsproto copies each byte of a large message five times.  Binary data, which is
all but a few bytes here, is passed on as views of what was received; the other
frames (ping, close) are passed to wsproto unchanged.
"""

from __future__ import annotations

import struct
from typing import List, NamedTuple, Optional

from pcapd.errors import RemoteProtocolError

__all__ = ["Cut", "Splitter"]

_CONTINUATION, _BINARY = 0x0, 0x2
_CONTROL_MAX = 125


class Cut(NamedTuple):
    """Payload of binary messages, and whole frames of every other kind."""

    data: List[memoryview]
    others: List[bytes]


class Splitter:
    """Splits a stream of unmasked frames."""

    def __init__(self) -> None:
        self._header = b""  # the start of an incomplete frame
        self._left = 0  # remaining payload of the current binary frame

    def feed(self, received: memoryview) -> Cut:
        """Split received bytes.

        Returns:
            Views of `received`: use them before the buffer is filled again.

        Raises:
            RemoteProtocolError: A frame that a server must not send.
        """
        cut = Cut([], [])
        if self._header:
            received = memoryview(self._header + bytes(received))
            self._header = b""
        while received:
            if self._left:
                taken = received[: self._left]
                cut.data.append(taken)
                self._left -= len(taken)
                received = received[len(taken) :]
                continue
            received = self._frame(received, cut)
        return cut

    def _frame(self, received: memoryview, cut: Cut) -> memoryview:
        size = _header_size(received)
        if size is None or len(received) < size:
            return self._wait(received)
        length = _payload_length(received)
        opcode = received[0] & 0x0F
        if opcode in (_CONTINUATION, _BINARY):
            if received[0] & 0x70:
                raise RemoteProtocolError("WebSocket: a frame with reserved bits")
            self._left = length
            return received[size:]
        if length > _CONTROL_MAX:
            raise RemoteProtocolError("WebSocket: neither a binary nor a control frame")
        if len(received) < size + length:
            return self._wait(received)
        cut.others.append(bytes(received[: size + length]))
        return received[size + length :]

    def _wait(self, received: memoryview) -> memoryview:
        self._header = bytes(received)
        return memoryview(b"")


def _header_size(received: memoryview) -> Optional[int]:
    if len(received) < 2:
        return None
    if received[1] & 0x80:
        raise RemoteProtocolError("WebSocket: a server must not mask frames")
    short = received[1] & 0x7F
    return 2 if short < 126 else 4 if short == 126 else 10


def _payload_length(received: memoryview) -> int:
    short = received[1] & 0x7F
    if short < 126:
        return short
    length: int = struct.unpack_from("!H" if short == 126 else "!Q", received, 2)[0]
    return length
