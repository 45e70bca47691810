"""A client's HTTP connection: one request at a time, and a time limit for each step.

Twisted's channel answers all requests that it finds in one read, even if the client does not
read the answers.  Here a request is handled only after the client has read the previous
answer.  Reading pauses while more than `limits.PIPELINED_MAX` bytes wait.

::

    HEAD ──complete──▶ ANSWERING ──finished──▶ SENDING ──read, next turn──▶ HEAD
                           └──▶ UPGRADED: to a WebSocket, until the end
    any ──▶ CLOSING: what is written is sent, and no more is read

======== ===========================================================================
HEAD     `limits.REQUEST_TIMEOUT` for the whole head
ANSWERING no limit until the answer begins: requests to authorities and agents have their own
         limits.  From the first byte on `limits.ANSWER_TIMEOUT`, and for a file one more
         second for each `limits.ANSWER_RATE_MIN` bytes.  A capture has its own limits
SENDING  the rest of the limit of ANSWERING
CLOSING  the rest of the limit of ANSWERING; `limits.HANDSHAKE_TIMEOUT` if there is none
======== ===========================================================================

The rest of a finished capture must be read within `limits.CLIENT_SILENCE_TIMEOUT`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request as WebRequest
from twisted.web.server import Site

from pcapd.errors import BadRequest
from pcapd.limits import (
    ANSWER_RATE_MIN,
    ANSWER_TIMEOUT,
    CLIENT_SILENCE_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    PIPELINED_MAX,
    REQUEST_TIMEOUT,
)
from pcapd.net.clock import Deadline, cancel
from pcapd.net.pages import deny

__all__ = ["HttpConnection", "HttpSite", "Successor"]


class Successor(Protocol):
    """Takes over a connection that was upgraded."""

    def dataReceived(self, data: bytes) -> None:
        """Handle bytes from the client."""

    def connectionLost(self, reason: Failure) -> None:
        """Handle the loss of the connection."""


class _Phase(Enum):
    HEAD = auto()
    ANSWERING = auto()
    SENDING = auto()
    UPGRADED = auto()
    CLOSING = auto()


class _Request(WebRequest):
    """A request; it is refused if it has a body, which no page needs, or headers that are not text."""

    def process(self) -> None:
        """Refuse a request line or header that Twisted could not decode."""
        try:
            (self.method + self.uri).decode("ascii")
            for name, values in self.requestHeaders.getAllRawHeaders():
                if name.lower() != b"authorization":  # read as bytes; refused later as an unknown token
                    b"".join(values).decode()
        except UnicodeDecodeError:
            body = deny(self, BadRequest("the request line or a header is not text"))
            self.setHeader("Content-Length", str(len(body)))
            self.write(body)
            self.finish()
        else:
            super().process()

    def gotLength(self, length: int | None) -> None:
        """Refuse a body before a byte of it is stored."""
        super().gotLength(0)
        if length != 0:
            channel = self.channel  # `finish` removes the reference to it
            self.clientproto = b"HTTP/1.1"  # Twisted would set it only after the body
            body = deny(self, BadRequest("this server takes no request bodies"))
            self.setResponseCode(http.REQUEST_ENTITY_TOO_LARGE)
            self.setHeader("Connection", "close")
            self.write(body)
            self.finish()
            channel.loseConnection()


class HttpConnection(http.HTTPChannel):
    """See the module.  It is also the consumer of a capture, which is its producer."""

    factory: HttpSite
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._phase = _Phase.HEAD
        self._kept = b""  # bytes received while a request was being answered
        self._deadline: Any = None
        self._turn: Any = None
        self._when_taken: list[Callable[[], None]] = []
        self._capture_over: Callable[[], None] | None = None
        self._successor: Successor | None = None
        #: Whether the send buffer is full, because the client does not read.
        self.full = False

    # --- life --------------------------------------------------------------

    def connectionMade(self) -> None:
        """Add the connection to the open ones, and start the time limit of the first request."""
        super().connectionMade()
        self.factory.connections.add(self)
        self._allow(REQUEST_TIMEOUT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remove the connection, and end the WebSocket or capture that uses it."""
        self.factory.connections.discard(self)
        self._phase = _Phase.CLOSING
        self._allow(None)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        super().connectionLost(reason)
        successor, self._successor = self._successor, None
        if successor is not None:
            successor.connectionLost(reason)
        self.capture_ended()
        self._taken()

    def hang_up(self) -> None:
        """Close the connection once its current answer is sent."""
        if self._phase in (_Phase.HEAD, _Phase.SENDING) and not self.requests:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close the connection when everything is sent, within a time limit."""
        if self._phase is not _Phase.CLOSING:
            self._phase = _Phase.CLOSING
            self._limit_the_rest()
            self.capture_ended()
        super().loseConnection()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Close.  Twisted's own method waits for the producer of the transport: this object itself."""
        self.loseConnection()

    def _allow(self, seconds: float | None) -> None:
        cancel(self._deadline)
        self._deadline = None
        if seconds is not None:
            self._deadline = Deadline(self.factory.clock, seconds, self._too_late)

    def _limit_the_rest(self) -> None:
        if self._capture_over is not None:
            self._allow(CLIENT_SILENCE_TIMEOUT)
        elif self._deadline is None:
            self._allow(HANDSHAKE_TIMEOUT)

    def _too_late(self) -> None:
        self._deadline = None
        if self._phase is _Phase.HEAD:
            self.loseConnection()
        else:
            self.transport.abortConnection()

    # --- one request at a time ---------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Handle received bytes now, or keep them until the current request is answered."""
        if self._successor is not None:
            self._successor.dataReceived(data)
        elif self._phase is _Phase.HEAD:
            super().dataReceived(data)
        elif self._phase is not _Phase.CLOSING:
            self._kept += data
            self._read_no_more_than_is_kept()

    def _read_no_more_than_is_kept(self) -> None:
        if len(self._kept) > PIPELINED_MAX:
            self.transport.pauseProducing()

    def allContentReceived(self) -> None:
        """Answer a complete request; the bytes after it are kept until it is answered."""
        self._phase = _Phase.ANSWERING
        self._kept = self.clearLineBuffer()
        self._allow(None)
        self._read_no_more_than_is_kept()
        super().allContentReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Begin an answer, and start its time limit."""
        headers.removeHeader(b"server")
        if self._capture_over is None:
            length = (headers.getRawHeaders(b"content-length") or [b"0"])[0]
            self._allow(ANSWER_TIMEOUT + int(length) / ANSWER_RATE_MIN)
        super().writeHeaders(version, code, reason, headers)

    def requestDone(self, request: Any) -> None:
        """Handle that an answer is written; the next request waits until the client has read it."""
        if self._phase is not _Phase.CLOSING:
            self._phase = _Phase.SENDING
            self._limit_the_rest()
        self.capture_ended()
        super().requestDone(request)  # resumes reading, or closes the connection
        self._read_no_more_than_is_kept()
        if self._phase is _Phase.SENDING:
            self._after_taken(self._give_turn)

    def _give_turn(self) -> None:
        # In the next turn, so that many requests on one connection do not delay other connections.
        self._turn = self.factory.clock.callLater(0, self._next)

    def _next(self) -> None:
        self._turn = None
        if self.full:
            self._after_taken(self._give_turn)
            return
        if self._phase is not _Phase.SENDING:
            return
        self._phase = _Phase.HEAD
        self._allow(REQUEST_TIMEOUT)
        kept, self._kept = self._kept, b""
        self.transport.resumeProducing()
        if kept:
            super().dataReceived(kept)

    def resetTimeout(self) -> None:
        """Do nothing: received bytes do not extend the time limit of a request."""

    # --- back-pressure -----------------------------------------------------

    def pauseProducing(self) -> None:
        """Pause the producer, because the client does not read."""
        self.full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Resume the producer, because the client has read."""
        self.full = False
        super().resumeProducing()
        self._read_no_more_than_is_kept()
        self._taken()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Register a producer; it is paused while the client does not read."""
        super().registerProducer(producer, streaming)
        if self.full and streaming:
            producer.pauseProducing()

    def _after_taken(self, act: Callable[[], None]) -> None:
        if self.full:
            self._when_taken.append(act)
        else:
            act()

    def _taken(self) -> None:
        waiting, self._when_taken = self._when_taken, []
        for act in waiting:
            act()

    # --- captures ----------------------------------------------------------

    def admitted(self, over: Callable[[], None]) -> None:
        """Protect the connection, because its capture was admitted.

        It is not closed to make room for others, and has no time limit.

        Args:
            over: Called once, when the client has read all of the capture, or is gone.
        """
        self._capture_over = over
        self._allow(None)
        self.transport.known()

    def capture_ended(self) -> None:
        """Handle that the last byte of the capture is written."""
        over, self._capture_over = self._capture_over, None
        if over is not None:
            self.transport.stranger()  # calls `pauseProducing` if much is waiting to be sent
            self._after_taken(over)

    def upgrade(self, successor: Successor) -> None:
        """Hand the connection over to another protocol.

        Args:
            successor: Receives all further bytes, and sets its own time limits.
        """
        self.factory.connections.discard(self)
        self._phase = _Phase.UPGRADED
        self._successor = successor


class HttpSite(Site):
    """The site; it has no access log, because the audit log contains more.

    Args:
        root: The resource for ``/``.
        reactor: The reactor.
    """

    # HTTP/1.1 only: Twisted's default protocol also supports HTTP/2.
    protocol = HttpConnection  # type: ignore[assignment]

    def __init__(self, root: Resource, reactor: IReactorTime) -> None:
        super().__init__(root, requestFactory=_Request, reactor=reactor, timeout=None)
        self.noisy = False
        self.displayTracebacks = False
        #: The reactor, for timers.
        self.clock: IReactorTime = reactor
        #: Open connections that are not WebSockets.
        self.connections: set[HttpConnection] = set()

    def log(self, request: Any) -> None:
        """Do nothing: there is no access log."""
