"""The two ends of a session, without I/O.

The *caller* requests a capture and the *callee* delivers it.  On one connection the caller is
the api and the callee an agent; on the other the caller is the client and the callee the api.
`receive` converts bytes to events.  The methods that send a message return bytes, which the
session's owner must write.

::

    callee                         caller
      HELLO ────────────────────────▶      at once; the caller refuses a lower level
      ◀──────────────────────── HELLO START
      SOURCE PACKETS STATS NOTICE ──▶      while the capture runs
      ◀───────────────────────── STOP      any time; then the callee drains
      END | ERROR ──────────────────▶      last
      ◀─────── PING / PONG ─────────▶      any time after HELLO

Anything else is a `RemoteProtocolError`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Dict, Iterator, Mapping, NamedTuple, Optional, Set, Tuple, Type, Union

from pcapd import COMPATIBILITY_LEVEL
from pcapd.errors import LocalProtocolError, RemoteProtocolError
from pcapd.limits import ANSWERS_BURST, ANSWERS_PER_SECOND, SOURCES_MAX
from pcapd.wire.codec import decode, encode
from pcapd.wire.frames import Bytes, Frame, FrameDecoder, FrameType, encode_frame, frame_header
from pcapd.wire.messages import (
    End,
    Error,
    Hello,
    Message,
    Notice,
    Ping,
    Pong,
    Source,
    Stats,
    Stop,
)
from pcapd.wire.requests import CaptureStart, Request

__all__ = ["Answers", "Callee", "Caller", "Event", "Packets", "encode_message"]


class Packets(NamedTuple):
    """A batch of records, not yet checked (`pcapd.records.check`)."""

    records: Bytes


class Event(NamedTuple):
    """A message of the peer; source 0 means the whole capture."""

    source: int
    message: Union[Message, Packets]


class Answers:
    """Limits the work that a peer can cause at little cost: answers to PINGs, and small frames.

    A token bucket of `limits.ANSWERS_BURST` tokens, refilled by `limits.ANSWERS_PER_SECOND`
    while the peer reads what is sent to it.  Otherwise it is not refilled, because unread
    answers would use up memory.
    """

    def __init__(self) -> None:
        self._left = float(ANSWERS_BURST)
        self._counted_at: Optional[float] = None

    def count(self, now: float, *, taken: bool) -> None:
        """Count one more answer or small frame.

        Args:
            now: Seconds of a monotonic clock.
            taken: Whether the peer reads what is sent to it.

        Raises:
            RemoteProtocolError: The limit is exceeded.
        """
        if taken and self._counted_at is not None:
            self._left += (now - self._counted_at) * ANSWERS_PER_SECOND
            self._left = min(self._left, float(ANSWERS_BURST))
        self._counted_at = now
        if self._left < 1:
            raise RemoteProtocolError("too many PINGs or small frames")
        self._left -= 1


class _State(Enum):
    GREETING = auto()  #: no HELLO received yet
    READY = auto()  #: HELLO received, no START yet
    CAPTURING = auto()
    ENDED = auto()


def encode_message(message: Message, source: int = 0) -> bytes:
    """Encode a message as one frame."""
    kind, payload = encode(message)
    return encode_frame(kind, source, payload)


class _Session:
    """The common part of both ends: framing, states, PING and PONG."""

    def __init__(self, expected: Mapping[_State, Mapping[FrameType, Type[Message]]]) -> None:
        self._expected = expected  # messages that the peer may send in each state
        self._decoder = FrameDecoder()
        self._state = _State.GREETING

    def receive(self, data: Bytes) -> Iterator[Event]:
        """Handle received bytes and yield their events.

        Raises:
            RemoteProtocolError: The peer must not send this, or not in the present state.
        """
        for frame in self._decoder.feed(data):
            yield self._event(frame)

    def room(self) -> Optional[memoryview]:
        """The buffer for the rest of an incomplete frame; None if no frame has begun."""
        return self._decoder.room()

    def filled(self, count: int) -> Iterator[Event]:
        """Like `receive`, for the next `count` bytes, which are in `room`."""
        for frame in self._decoder.filled(count):
            yield self._event(frame)

    def eof(self) -> None:
        """Check the end of the peer's stream.

        Raises:
            RemoteProtocolError: The stream ends in the middle of a frame.
        """
        if self._decoder.pending:
            raise RemoteProtocolError("the stream was cut in the middle of a frame")

    def ping(self, now_us: int) -> bytes:
        """Send PING.  `now_us` is the time of this end."""
        return encode_message(Ping(now_us))

    def pong(self, ping: Ping, now_us: int) -> bytes:
        """Answer a PING with PONG."""
        return encode_message(Pong(ping.sent_us, now_us))

    @property
    def ended(self) -> bool:
        """Whether END or ERROR was sent by the callee, so that no more messages follow."""
        return self._state is _State.ENDED

    def _event(self, frame: Frame) -> Event:
        if frame.type is FrameType.PACKETS:
            return self._packets(frame)
        message_type = self._expected[self._state].get(frame.type)
        if message_type is None:
            raise RemoteProtocolError(f"{frame.type.name} frame while {self._state.name.lower()}")
        message = decode(message_type, bytes(frame.payload))
        self._saw(message, frame.source)
        return Event(frame.source, message)

    def _packets(self, frame: Frame) -> Event:
        raise RemoteProtocolError("PACKETS frame from the side that requests them")

    def _saw(self, message: Message, source: int) -> None:
        raise NotImplementedError


_FROM_CALLEE: Mapping[_State, Mapping[FrameType, Type[Message]]] = {
    _State.GREETING: {FrameType.HELLO: Hello, FrameType.ERROR: Error},
    _State.READY: {FrameType.ERROR: Error, FrameType.PING: Ping, FrameType.PONG: Pong},
    _State.CAPTURING: {
        FrameType.SOURCE: Source,
        FrameType.STATS: Stats,
        FrameType.NOTICE: Notice,
        FrameType.END: End,
        FrameType.ERROR: Error,
        FrameType.PING: Ping,
        FrameType.PONG: Pong,
    },
    _State.ENDED: {},
}


class Caller(_Session):
    """The end that requests a capture: the api to an agent, or the client to the api."""

    def __init__(self) -> None:
        super().__init__(_FROM_CALLEE)
        self._sources: Set[int] = set()

    def hello(self, hello: Hello) -> bytes:
        """Send HELLO, after the callee's HELLO."""
        return encode_message(hello)

    def start(self, request: Union[CaptureStart, Request]) -> bytes:
        """Send START, once, after both HELLO messages."""
        if self._state is not _State.READY:
            raise LocalProtocolError("START may be sent once, after HELLO")
        self._state = _State.CAPTURING
        return encode_message(request)

    def stop(self) -> bytes:
        """Send STOP: the callee stops, drains and sends END."""
        return encode_message(Stop())

    def _packets(self, frame: Frame) -> Event:
        if frame.source not in self._sources or self._state is not _State.CAPTURING:
            raise RemoteProtocolError(f"PACKETS frame for source {frame.source}, which is not open")
        return Event(frame.source, Packets(frame.payload))

    def _saw(self, message: Message, source: int) -> None:
        if isinstance(message, Hello):
            if message.level < COMPATIBILITY_LEVEL:
                raise RemoteProtocolError(
                    f"{message.role} {message.id} speaks level {message.level} of the protocol, "
                    f"but {COMPATIBILITY_LEVEL} is needed",
                    "upgrade it",
                )
            self._state = _State.READY
        elif isinstance(message, Source):
            if source == 0 or source in self._sources or len(self._sources) >= SOURCES_MAX:
                raise RemoteProtocolError(f"SOURCE frame for id {source}, which is taken or reserved")
            self._sources.add(source)
        elif isinstance(message, Stats):
            if source not in self._sources:
                raise RemoteProtocolError(f"STATS frame for source {source}, which is not open")
        elif isinstance(message, (End, Error)):
            self._state = _State.ENDED


class Callee(_Session):
    """The end that delivers a capture: an agent to the api, or the api to its client.

    Args:
        request: The kind of START that this end accepts.
    """

    def __init__(self, request: Type[Union[CaptureStart, Request]]) -> None:
        always: Dict[FrameType, Type[Message]] = {FrameType.PING: Ping, FrameType.PONG: Pong}
        super().__init__(
            {
                _State.GREETING: {FrameType.HELLO: Hello},
                _State.READY: {FrameType.START: request, **always},
                _State.CAPTURING: {FrameType.STOP: Stop, **always},
                # The peer may have sent these before it received END or ERROR.
                _State.ENDED: {FrameType.STOP: Stop, **always},
            }
        )

    def hello(self, hello: Hello) -> bytes:
        """Send HELLO, the first message."""
        return encode_message(hello)

    def source(self, number: int, source: Source) -> bytes:
        """Send SOURCE, for an open source."""
        return encode_message(source, number)

    def packets(self, number: int, payload: Bytes) -> Tuple[bytes, Bytes]:
        """Send a batch, as header and payload, so that the payload is not copied."""
        return frame_header(FrameType.PACKETS, number, len(payload)), payload

    def stats(self, number: int, stats: Stats) -> bytes:
        """Send STATS: counters and watermark of a source."""
        return encode_message(stats, number)

    def notice(self, notice: Notice) -> bytes:
        """Send NOTICE."""
        return encode_message(notice)

    def end(self, end: Union[End, Error]) -> bytes:
        """Send END or ERROR, the last message."""
        self._state = _State.ENDED
        return encode_message(end)

    def _saw(self, message: Message, source: int) -> None:
        if source:
            raise RemoteProtocolError("a request names a source")
        if isinstance(message, Hello):
            self._state = _State.READY
        elif isinstance(message, (CaptureStart, Request)):
            self._state = _State.CAPTURING
