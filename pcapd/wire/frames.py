"""Frames: the unit of the wire protocol, on every connection (docs/wire-protocol.rst).

::

    u32 payload length | u8 type | u8 flags | u16 source | payload      network order

A frame is refused as soon as its header is received if its type is unknown, its flags are not
zero, or its length exceeds the limit for its type.  So a hostile peer cannot make the receiver
reserve more memory than that limit.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Iterator, NamedTuple, Optional, Union

from pcapd.errors import LocalProtocolError, RemoteProtocolError
from pcapd.limits import CONTROL_MAX, FRAME_MAX, FRAME_TYPICAL

__all__ = ["HEADER_SIZE", "Frame", "FrameDecoder", "FrameType", "encode_frame", "frame_header"]

_HEADER = struct.Struct("!IBBH")
HEADER_SIZE = _HEADER.size

Bytes = Union[bytes, bytearray, memoryview]


class FrameType(IntEnum):
    """The type of a frame's payload: JSON for all but PACKETS."""

    HELLO = 1
    START = 2
    SOURCE = 3
    PACKETS = 4
    STATS = 5
    NOTICE = 6
    STOP = 7
    END = 8
    ERROR = 9
    PING = 10
    PONG = 11


class Frame(NamedTuple):
    """One frame; source 0 means the whole capture.

    The payload is a buffer of its own, which is not overwritten later.
    """

    type: FrameType
    source: int
    payload: Bytes


_MAX_PAYLOAD = {kind.value: CONTROL_MAX for kind in FrameType}
_MAX_PAYLOAD[FrameType.PACKETS.value] = FRAME_MAX
_TYPES = {kind.value: kind for kind in FrameType}


def frame_header(kind: FrameType, source: int, length: int) -> bytes:
    """The 8 bytes of header that precede a payload of `length` bytes.

    Raises:
        LocalProtocolError: The payload exceeds the bound for its type.
    """
    if length > _MAX_PAYLOAD[kind]:
        raise LocalProtocolError(f"{kind.name} frame of {length} bytes exceeds the bound")
    return _HEADER.pack(length, kind, 0, source)


def encode_frame(kind: FrameType, source: int, payload: bytes) -> bytes:
    """A whole frame.  To avoid a copy, write large payloads after `frame_header`."""
    return frame_header(kind, source, len(payload)) + payload


class FrameDecoder:
    """Splits received bytes into frames.  Holds at most one incomplete frame.

    If the header of a frame is received, but not the whole payload, a buffer is allocated.  If
    the frame is large, the buffer is at first smaller than the payload, about
    `limits.FRAME_TYPICAL`.  A transport may write into the buffer itself (`room`, `filled`),
    which saves a copy.
    """

    def __init__(self) -> None:
        self._begun = b""  # received bytes of an incomplete header
        self._head = (FrameType.PACKETS, 0)  # type and source of the incomplete frame
        self._length = 0  # bytes of its payload
        self._payload: Optional[memoryview] = None  # buffer for its payload
        self._received = 0  # bytes in this buffer

    def feed(self, data: Bytes) -> Iterator[Frame]:
        """Add received bytes, and yield the frames that are now complete.

        The iterator must be exhausted before the next call; after that, `data` may change.

        Raises:
            RemoteProtocolError: A header is not valid.
        """
        view = memoryview(data)
        while view and (room := self.room()) is not None:
            taken = min(len(room), len(view))
            room[:taken] = view[:taken]
            view = view[taken:]
            yield from self.filled(taken)
        if self._begun and view:
            missing = HEADER_SIZE - len(self._begun)
            self._begun += view[:missing]
            view = view[missing:]
            if len(self._begun) < HEADER_SIZE:
                return
            view, self._begun = memoryview(self._begun + view), b""
        while len(view) >= HEADER_SIZE:
            length, number, flags, source = _HEADER.unpack_from(view)
            kind = _checked(length, number, flags)
            payload = view[HEADER_SIZE : HEADER_SIZE + length]
            view = view[HEADER_SIZE + length :]
            if len(payload) < length:
                self._head, self._length = (kind, source), length
                self._payload = memoryview(bytearray(min(length, max(FRAME_TYPICAL, 2 * len(payload)))))
                self._payload[: len(payload)] = payload
                self._received = len(payload)
                return
            yield Frame(kind, source, bytes(payload))
        if view:
            self._begun = bytes(view)

    def room(self) -> Optional[memoryview]:
        """The buffer for the rest of the incomplete frame; None if no frame has begun."""
        if self._payload is None:
            return None
        if self._received == len(self._payload):  # the first, smaller buffer is full
            larger = memoryview(bytearray(self._length))
            larger[: self._received] = self._payload
            self._payload = larger
        return self._payload[self._received :]

    def filled(self, count: int) -> Iterator[Frame]:
        """Handle `count` bytes that were written into `room`; yield the frame if it is now complete."""
        payload = self._payload
        self._received += count
        if payload is not None and self._received == self._length:
            self._payload = None
            yield Frame(*self._head, payload.toreadonly())

    @property
    def pending(self) -> int:
        """Number of received bytes of an incomplete frame; not 0 at the end if the stream was cut."""
        return len(self._begun) if self._payload is None else HEADER_SIZE + self._received


def _checked(length: int, number: int, flags: int) -> FrameType:
    kind = _TYPES.get(number)
    if kind is None:
        raise RemoteProtocolError(f"frame of unknown type {number}")
    if flags:
        raise RemoteProtocolError(f"{kind.name} frame with unknown flags {flags:#04x}")
    if length > _MAX_PAYLOAD[number]:
        raise RemoteProtocolError(f"{kind.name} frame of {length} bytes exceeds the bound")
    return kind
