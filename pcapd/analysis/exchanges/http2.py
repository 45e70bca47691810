"""HTTP/2 in clear, with prior knowledge (RFC 9113, section 3.3), as gRPC uses it in a container.

Each stream is a request with its response, like those of HTTP/1.1.  The first header block of a
response ends the wait, so a long stream of messages is not slow.  A request that the server leaves to
another connection (GOAWAY, REFUSED_STREAM) is repeated there, and is not unanswered here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Deque, Dict, Final, List, Set

from pcapd.analysis.exchanges.frames import PREFACE, Block, Frames, is_preface, is_settings
from pcapd.analysis.exchanges.request import IDS, VALUE_MAX, Message, Request, plain, segment
from pcapd.analysis.exchanges.requests import SLOW_US
from pcapd.analysis.exchanges.streams import Piece, Room, Stream

__all__ = ["Call", "Followed", "Http2", "is_preface", "is_settings"]

#: Limit of requests of a connection under way; most servers allow 100 to 256.  More are ignored.
_STREAMS_MAX: Final = 1024
#: Limit of cancelled requests of a connection that are kept.
_CANCELLED_MAX: Final = 64
#: bytes of memory of a connection, and of a request.
_OWN_SIZE, _REQUEST_SIZE = 8192, 1024
_METHOD_MAX: Final = 16
#: RFC 9113, section 7.
_CODES: Final = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
_NO_ERROR, _REFUSED_STREAM = 0, 7
#: The gRPC statuses that correspond to an HTTP status of 500 or more (google/rpc/code.proto); they are also
#: those that OpenTelemetry's conventions count as errors of a server.  The others are answers to the
#: request, such as NOT_FOUND.
_GRPC_ERRORS: Final = {
    b"2": "UNKNOWN", b"4": "DEADLINE_EXCEEDED", b"12": "UNIMPLEMENTED", b"13": "INTERNAL",
    b"14": "UNAVAILABLE", b"15": "DATA_LOSS",
}  # fmt: skip


class Call(Request):
    """A request of HTTP/2.

    Attributes:
        error: What failed besides the status; else empty.
        ended: Whether the request is complete.
        quiet: Whether a long wait may be normal: a gRPC call without a deadline may be a stream
            without an event.
        cancelled_us: When the client cancelled it; 0 if it did not.
    """

    __slots__ = ("cancelled_us", "ended", "error", "quiet")

    def __init__(self, seq: int, method: str, path: str, ids: List[bytes], sent: Message) -> None:
        super().__init__(seq, method, path, ids, sent)
        self.error = ""
        self.ended = self.quiet = False
        self.cancelled_us = 0


class Followed:
    """The HTTP/2 connections that are followed; beyond the memory, the least recently used are given up.

    Args:
        left: Bytes of memory.

    Attributes:
        left: Bytes of memory that are left.
        lost: Number of connections that were not followed to their ends.
    """

    def __init__(self, left: int) -> None:
        self.left, self.lost = left, 0
        self._sizes: OrderedDict[Http2, int] = OrderedDict()

    def used(self, one: Http2, size: int) -> None:
        """Note that a connection was used, and its size now."""
        self.left += self._sizes.pop(one, 0) - size
        self._sizes[one] = size
        while self.left < 0:
            next(iter(self._sizes)).lost()

    def drop(self, one: Http2) -> None:
        """Forget a connection."""
        self.left += self._sizes.pop(one, 0)


class Http2:
    """A connection at one place.

    Args:
        room: See `Stream`.
        followed: All connections.
        contents: Whether contents are wanted, see `pcapd.analysis.exchanges.http`.

    Attributes:
        done: Requests with a complete response; the reader empties the list.
    """

    #: See `pcapd.analysis.exchanges.http.Http`.
    upgraded = False
    #: The decompression of heads has a state, so the connection cannot be read on later.
    calm = False

    def __init__(self, room: Room, followed: Followed, *, contents: bool = False) -> None:
        self._contents = contents
        self.done: List[Request] = []
        self._followed = followed
        self._requests = _Requests(self, room, PREFACE)
        self._answers = _Answers(self, room, b"")
        self._begun = False  # whether the server's direction has its reader
        self._streams: Dict[int, Call] = {}
        self._newest = 0  # the newest stream of the client
        self._early = 0  # the newest stream whose response was read before its request
        self._last = 1 << 31  # the last stream that the server processes
        self._cancelled: List[Call] = []
        self._recent: Deque[int] = deque(maxlen=_STREAMS_MAX)
        self._lost = False
        self.grown()

    def stream(self, content: bytes) -> Stream:
        """The reader for the direction that starts with these bytes."""
        if is_preface(content) or self._begun:
            return self._requests
        self._begun = True
        return self._answers

    @property
    def waiting(self) -> List[Request]:
        """The requests without a complete response, in order."""
        return list(self._streams.values())

    @property
    def unanswered(self) -> List[Request]:
        """The requests without a response, also those that the client cancelled after a long wait."""
        return [one for one in (*self._cancelled, *self._streams.values()) if one.status is None]

    @property
    def answered_last(self) -> Set[int]:
        """The starts of the requests that were answered last, or need no answer."""
        return set(self._recent) | {one.seq for one in self._cancelled}

    def ended(self) -> None:
        """Process the end of the connection: streams with a response count, although they have no end."""
        for request in self._streams.values():
            if request.status is not None:
                self._finish(request, request.answered.last_us)
        self._followed.drop(self)

    def lost(self) -> None:
        """Give up the connection: what its requests come to is unknown."""
        self.interrupted()
        self._requests.stop()
        self._answers.stop()
        self._streams.clear()
        self._followed.drop(self)

    def interrupted(self) -> None:
        """Note that packets are still missing at the end of the connection."""
        if not self._lost:
            self._lost = True
            self._followed.lost += 1

    def not_spoken(self, piece: Piece) -> None:
        """Process an answer of a server that only speaks HTTP/1.1, which ends the connection."""
        for request in self._streams.values():
            request.answered = Message(piece.us, piece.us, piece.frame)
            request.error = "HTTP/1.1 instead of HTTP/2"
            self._finish(request, piece.us)
        self._lost = True
        self.lost()

    def grown(self) -> None:
        """Count the memory."""
        size = _OWN_SIZE + len(self._streams) * _REQUEST_SIZE + self._requests.size + self._answers.size
        self._followed.used(self, size)

    # --- the client's frames ----------------------------------------------------------

    def asked(self, block: Block) -> None:
        """Process the header block of a request, or its trailers."""
        stream = block.stream
        if stream in self._streams:
            if block.ended:
                self.request_ended(stream, block.last.us)
        elif stream > self._newest and not self._lost:
            self._newest = stream
            if self._early < stream <= self._last and len(self._streams) < _STREAMS_MAX:
                self._streams[stream] = _request(block, contents=self._contents)

    def request_ended(self, stream: int, us: int) -> None:
        """Process the end of a request."""
        request = self._streams.get(stream)
        if request is not None and not request.ended:
            request.ended = True
            if request.answered is None:
                request.sent.last_us = us

    def cancelled(self, stream: int, us: int) -> None:
        """Process RST_STREAM of the client: the normal end of a stream that it wants no longer."""
        request = self._streams.pop(stream, None)
        if request is None:
            return
        if request.answered is not None:
            self._finish(request, us)
        elif request.ended and us - request.sent.last_us >= SLOW_US and len(self._cancelled) < _CANCELLED_MAX:
            request.cancelled_us = us
            self._cancelled.append(request)
        else:
            self._recent.append(request.seq)

    # --- the server's frames ----------------------------------------------------------

    def answered(self, block: Block) -> None:
        """Process the header block of a response, or its trailers."""
        request = self._streams.get(block.stream)
        if request is None:
            if block.stream > self._newest and block.stream & 1:
                self._early = max(self._early, block.stream)
            return
        if request.answered is None:
            status = next((value for name, value in block.fields if name == b":status"), b"")
            if len(status) != 3 or not status.isdigit():
                self.lost()
                return
            if status < b"200":
                return
            request.status = int(status)
            request.answered = Message(block.first.us, block.last.us, block.first.frame)
            if not request.ended:  # the server need not have answered earlier
                request.sent.last_us = block.first.us
        for name, value in block.fields:
            if name == b"grpc-status" and value in _GRPC_ERRORS:
                request.error = f"gRPC status {int(value)} ({_GRPC_ERRORS[value]})"
            elif name == b"grpc-message" and self._contents:
                request.said = plain(value)
            elif name == b"x-cf-routererror" and request.status is not None and request.status >= 500:
                request.router_error = value[:64].lower().decode("ascii", "replace")
        if request.said and not request.error and (request.status or 0) < 500:
            request.said = ""  # only failed responses are quoted
        if block.ended:
            self.answer_ended(block.stream, block.last)

    def answer_ended(self, stream: int, piece: Piece) -> None:
        """Process the end of a response."""
        request = self._streams.pop(stream, None)
        if request is not None and request.answered is not None:
            request.whole = True
            self._finish(request, piece.us)

    def refused(self, stream: int, code: int, piece: Piece) -> None:
        """Process RST_STREAM of the server."""
        request = self._streams.pop(stream, None)
        if request is None:
            return
        if request.answered is None:
            if code == _REFUSED_STREAM:
                self._recent.append(request.seq)
                return
            request.answered = Message(piece.us, piece.us, piece.frame)
            request.error = f"RST_STREAM {_code(code)}"
        elif code != _NO_ERROR:
            request.error = f"RST_STREAM {_code(code)}"
        self._finish(request, piece.us)

    def left(self, last: int) -> None:
        """Process GOAWAY of the server: the client repeats later requests on another connection."""
        self._last = min(self._last, last)
        for stream in [stream for stream in self._streams if stream > self._last]:
            self._recent.append(self._streams.pop(stream).seq)

    def _finish(self, request: Call, us: int) -> None:
        answered = request.answered
        answered.last_us = us
        if request.quiet and (not request.whole or us - answered.first_us >= SLOW_US) and not request.error:
            # A stream of messages: some servers send its header block with the first of them.
            request.sent.last_us = max(request.sent.last_us, answered.first_us)
        self._recent.append(request.seq)
        self.done.append(request)


class _Side(Frames):
    """One direction of a connection."""

    def __init__(self, talk: Http2, room: Room, preface: bytes) -> None:
        super().__init__(room, preface)
        self._talk = talk

    def close(self) -> None:
        if self._early:
            self._talk.interrupted()
        super().close()

    def lost(self) -> None:
        self._talk.lost()

    def grown(self) -> None:
        self._talk.grown()


class _Requests(_Side):
    def head(self, block: Block) -> None:
        self._talk.asked(block)

    def stream_ended(self, stream: int, piece: Piece) -> None:
        self._talk.request_ended(stream, piece.us)

    def reset(self, stream: int, code: int, piece: Piece) -> None:
        self._talk.cancelled(stream, piece.us)

    def going_away(self, last: int, code: int) -> None:
        pass  # about streams that the server opens


class _Answers(_Side):
    def head(self, block: Block) -> None:
        self._talk.answered(block)

    def stream_ended(self, stream: int, piece: Piece) -> None:
        self._talk.answer_ended(stream, piece)

    def reset(self, stream: int, code: int, piece: Piece) -> None:
        self._talk.refused(stream, code, piece)

    def going_away(self, last: int, code: int) -> None:
        self._talk.left(last)


def _request(block: Block, *, contents: bool) -> Call:
    """The request of a header block."""
    found: Dict[bytes, bytes] = {}
    for name, value in block.fields:
        found.setdefault(name, value)
    request = Call(
        block.seq,
        found.get(b":method", b"")[:_METHOD_MAX].decode("ascii", "backslashreplace"),
        segment(found.get(b":path", b"")),
        [found[name][:VALUE_MAX].strip().lower() for name in IDS if name in found],
        Message(block.first.us, block.last.us, block.first.frame),
    )
    if contents:
        target = found.get(b":authority", b"") + found.get(b":path", b"")
        request.shown = plain(found.get(b":method", b"")[:_METHOD_MAX] + b" " + target)
    request.ended = block.ended
    grpc = found.get(b"content-type", b"").startswith(b"application/grpc")
    request.quiet = grpc and b"grpc-timeout" not in found
    return request


def _code(code: int) -> str:
    return _CODES[code] if code < len(_CODES) else f"code {code}"
