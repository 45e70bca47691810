"""Frames: the unit of the wire protocol, on every leg (docs/wire-protocol.rst).

::

    u32 payload length | u8 type | u8 flags | u16 source | payload      network order

A frame is refused from its header alone when its type is unknown, its flags
are not zero or its length is over the bound for its type, so a hostile peer
cannot make us reserve memory.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Iterator, NamedTuple, Union

from pcapd.errors import LocalProtocolError, RemoteProtocolError
from pcapd.limits import CONTROL_MAX, FRAME_MAX

__all__ = ["HEADER_SIZE", "Frame", "FrameDecoder", "FrameType", "encode_frame", "frame_header"]

_HEADER = struct.Struct("!IBBH")
HEADER_SIZE = _HEADER.size

Bytes = Union[bytes, bytearray, memoryview]


class FrameType(IntEnum):
    """What a frame's payload is: JSON for all but PACKETS."""

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
    """One frame; source 0 means the whole capture."""

    type: FrameType
    source: int
    payload: bytes


_MAX_PAYLOAD = {kind.value: CONTROL_MAX for kind in FrameType}
_MAX_PAYLOAD[FrameType.PACKETS.value] = FRAME_MAX
_TYPES = {kind.value: kind for kind in FrameType}


def frame_header(kind: FrameType, source: int, length: int) -> bytes:
    """The 8 bytes before a payload of `length` bytes.

    Raises:
        LocalProtocolError: The payload is over the bound for its type.
    """
    if length > _MAX_PAYLOAD[kind]:
        raise LocalProtocolError(f"{kind.name} frame of {length} bytes is over the bound")
    return _HEADER.pack(length, kind, 0, source)


def encode_frame(kind: FrameType, source: int, payload: bytes) -> bytes:
    """A whole frame.  Large payloads are better written after `frame_header`, uncopied."""
    return frame_header(kind, source, len(payload)) + payload


class FrameDecoder:
    """Bytes in, frames out.  Holds at most one incomplete frame and one read."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: Bytes) -> Iterator[Frame]:
        """Take bytes as they arrived and yield the frames that are now complete.

        The iterator must be exhausted before the next call.

        Raises:
            RemoteProtocolError: A header that no honest peer sends.
        """
        buffer = self._buffer
        buffer += data
        offset = 0
        available = len(buffer)
        try:
            while available - offset >= HEADER_SIZE:
                length, number, flags, source = _HEADER.unpack_from(buffer, offset)
                kind = _TYPES.get(number)
                if kind is None:
                    raise RemoteProtocolError(f"frame of unknown type {number}")
                if flags:
                    raise RemoteProtocolError(f"{kind.name} frame with unknown flags {flags:#04x}")
                if length > _MAX_PAYLOAD[number]:
                    raise RemoteProtocolError(f"{kind.name} frame of {length} bytes is over the bound")
                end = offset + HEADER_SIZE + length
                if end > available:
                    break
                with memoryview(buffer) as view:
                    payload = bytes(view[offset + HEADER_SIZE : end])
                offset = end
                yield Frame(kind, source, payload)
        finally:
            if offset:
                del buffer[:offset]

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame; not zero at the end of a stream means it was cut."""
        return len(self._buffer)
