"""Frames: the unit of the wire protocol, on every connection (docs/wire-protocol.rst).

::

    u32 payload length | u8 type | u8 flags | u16 source | payload      network order

A frame is refused from its header alone when its type is unknown, its flags
are not zero or its length is over the bound for its type, so a hostile peer
cannot make us reserve memory.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Iterator, List, NamedTuple, Union

from pcapd.errors import LocalProtocolError, RemoteProtocolError
from pcapd.limits import CONTROL_MAX, FRAME_MAX

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

    The payload of PACKETS is a view of the received bytes: it is not copied, and does
    not change.
    """

    type: FrameType
    source: int
    payload: Bytes


#: bytes; smaller pieces are joined, so that their cost depends on size and not on number.
_GATHER = 4096

_MAX_PAYLOAD = {kind.value: CONTROL_MAX for kind in FrameType}
_MAX_PAYLOAD[FrameType.PACKETS.value] = FRAME_MAX
_TYPES = {kind.value: kind for kind in FrameType}


def frame_header(kind: FrameType, source: int, length: int) -> bytes:
    """The header: 8 bytes before a payload of `length` bytes.

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
    """Makes frames of bytes.  Holds at most one incomplete frame and one read.

    Pieces of a frame are kept as they came and joined once, when the frame is
    complete: the payload of a large frame is copied once, not once per piece.
    """

    def __init__(self) -> None:
        self._pieces: List[Union[bytes, bytearray]] = []
        self._size = 0
        self._needed = HEADER_SIZE  # bytes until something can be said

    def feed(self, data: Bytes) -> Iterator[Frame]:
        """Add received bytes, and yield the frames that are now complete.

        The iterator must be exhausted before the next call.

        Raises:
            RemoteProtocolError: A header is not valid.
        """
        self._keep(data)
        if self._size < self._needed:
            return
        view = memoryview(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
        offset = 0
        needed = HEADER_SIZE
        while len(view) - offset >= HEADER_SIZE:
            length, number, flags, source = _HEADER.unpack_from(view, offset)
            kind = _checked(length, number, flags)
            needed = HEADER_SIZE + length
            if len(view) - offset < needed:
                break
            payload = view[offset + HEADER_SIZE : offset + needed]
            offset += needed
            needed = HEADER_SIZE
            yield Frame(kind, source, payload if kind is FrameType.PACKETS else bytes(payload))
        self._pieces = [bytes(view[offset:])] if offset < len(view) else []
        self._size = len(view) - offset
        self._needed = needed

    def _keep(self, data: Bytes) -> None:
        self._size += len(data)
        last = self._pieces[-1] if self._pieces else b""
        if len(data) >= _GATHER:
            self._pieces.append(bytes(data))  # (costs nothing when they are bytes already)
        elif isinstance(last, bytearray):
            last += data
        else:
            self._pieces.append(bytearray(data))

    @property
    def pending(self) -> int:
        """The bytes of an incomplete frame; if not 0 at the end, the stream was cut."""
        return self._size


def _checked(length: int, number: int, flags: int) -> FrameType:
    kind = _TYPES.get(number)
    if kind is None:
        raise RemoteProtocolError(f"frame of unknown type {number}")
    if flags:
        raise RemoteProtocolError(f"{kind.name} frame with unknown flags {flags:#04x}")
    if length > _MAX_PAYLOAD[number]:
        raise RemoteProtocolError(f"{kind.name} frame of {length} bytes exceeds the bound")
    return kind
