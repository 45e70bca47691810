"""A capture as frames over a WebSocket (``GET /v1/stream``).

A message to the client contains whole frames.  All small frames of one turn of the reactor
are sent in one message, because many small writes are expensive.

::

    GREETED ──START──▶ ASKING ──admitted──▶ CAPTURING ──END──▶ OVER ──▶ CLOSED
       │                  └─STOP─▶ WITHDRAWN ──▲               ▲
       └────── ERROR ─────┴────────────┴───────┴───────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from pcapd.api.capture import audit
from pcapd.api.capture.life import Capture
from pcapd.api.http.web import CaptureService, ClientInfo
from pcapd.api.http.websocket import WebSocket, accept
from pcapd.errors import BadRequest, ClientLeft, RemoteProtocolError, RequestError
from pcapd.limits import (
    CLIENT_PING_INTERVAL,
    CLIENT_SILENCE_TIMEOUT,
    DURATION_GRACE,
    HANDSHAKE_TIMEOUT,
    START_TIMEOUT,
)
from pcapd.net.clock import Deadline, cancel, now_us
from pcapd.net.httpserver import HttpConnection
from pcapd.net.pages import Page, deny
from pcapd.net.sendqueue import RECORD
from pcapd.running import RunningTime
from pcapd.wire import (
    Callee,
    End,
    EndReason,
    Error,
    Notice,
    Ping,
    Request,
    Source,
    Stats,
    Stop,
)
from pcapd.wire.frames import Bytes

__all__ = ["StreamProtocol", "StreamResource"]

_PROTOCOL_ERROR = 1002  # RFC 6455, section 7.4.1


class StreamResource(Page):
    """Upgrades a request to a `StreamProtocol`.

    Args:
        service: The api.
    """

    isLeaf = True
    methods = ("GET",)

    def __init__(self, service: CaptureService) -> None:
        super().__init__()
        self._service = service

    def render_GET(self, request: Any) -> Any:
        """Answer an upgrade, and refuse anything else."""
        try:
            self._service.accepting()
            if (request.getHeader("upgrade") or "").lower() != "websocket":
                raise BadRequest("this is a WebSocket endpoint", "use pcapctl, or GET /capture")
            end, accepted = accept(request)
        except RequestError as error:
            return self.refuse(request, error)
        channel = request.channel
        stream = StreamProtocol(self._service, self._service.client(request), channel)
        channel.write(accepted)
        stream.opened(WebSocket(channel, end, self._service.reactor, stream))
        return NOT_DONE_YET

    def refuse(self, request: Any, error: RequestError) -> bytes:
        """Refuse a request; record the refusal if the request has a token."""
        client = self._service.client(request)
        if client.token is not None:
            error = self._service.refused(Failure(error), client)
        return deny(request, error)


class _State(Enum):
    GREETED = auto()
    ASKING = auto()
    WITHDRAWN = auto()  #: STOP was received before the capture was admitted or refused
    CAPTURING = auto()
    OVER = auto()  #: END or ERROR is written
    CLOSED = auto()  #: nothing more is written


_UNDECIDED = (_State.ASKING, _State.WITHDRAWN)


class StreamProtocol:
    """The protocol for one client; also the sink of its capture.

    Args:
        service: The api.
        client: The client.
        channel: The connection.
    """

    grace = DURATION_GRACE

    def __init__(self, service: CaptureService, client: ClientInfo, channel: HttpConnection) -> None:
        self._service = service
        self._reactor = service.reactor
        self._client = client
        self._channel = channel
        self._session = Callee(Request)
        self._state = _State.GREETED
        self._websocket: WebSocket | None = None
        self._requested: Mapping[str, Any] = {}
        self._asked: Deferred[Any] | None = None
        self._capture: Capture | None = None
        self._out: list[Bytes] = []
        self._out_size = 0
        self._flush_soon: Any = None
        self._timer: Any = None
        self._pinger: Any = None
        self._time = RunningTime(CLIENT_PING_INTERVAL)
        self._heard_at = 0.0  # value of `_time` at the last message or pong of the client, seconds

    def opened(self, websocket: WebSocket) -> None:
        """Send HELLO and wait for START, because the WebSocket is open."""
        self._websocket = websocket
        self._timer = Deadline(self._reactor, START_TIMEOUT, self._no_start)
        self._ping_later()
        self._service.joined(self)
        self._send(self._session.hello(self._service.hello()))

    # --- WebSocketUser -----------------------------------------------------

    def message(self, data: bytes) -> None:
        """Handle frames from the client."""
        assert self._websocket is not None
        self._heard_at = self._time.at(self._reactor.seconds())
        try:
            for event in self._session.receive(data):
                self._websocket.count()
                if isinstance(event.message, Request):
                    self._start(event.message)
                elif isinstance(event.message, Stop):
                    self._stop()
                elif isinstance(event.message, Ping):
                    self._send(self._session.pong(event.message, now_us()))
            self._session.eof()  # raises an error if the message ends within a frame
        except RemoteProtocolError as error:
            self._broken(error)

    def alive(self) -> None:
        """Handle a pong."""
        self._heard_at = self._time.at(self._reactor.seconds())

    def closed(self) -> None:
        """Send what is written and end the capture, because the WebSocket closes."""
        self._flush()
        self._leave("the client is gone")

    def lost(self) -> None:
        """Handle the loss of the client."""
        self._leave("the client is gone")
        self._service.left(self)
        for call in (self._flush_soon, self._pinger):
            cancel(call)
        self._websocket = None

    def _leave(self, why: str) -> None:
        before, self._state = self._state, _State.CLOSED
        self._drop_timer()
        if before is _State.GREETED and self._client.token is not None:
            self._refused(ClientLeft("the client left before it asked for a capture"))
        elif before in _UNDECIDED and self._asked is not None:
            self._asked.cancel()  # the service then records the refusal
        self._abandon(why)

    # --- the start ---------------------------------------------------------

    def _start(self, request: Request) -> None:
        self._drop_timer()
        self._state = _State.ASKING
        self._requested = audit.request_fields(request)
        token = self._client.token or request.token
        self._asked = self._service.begin(request, token, self._client, self)
        self._asked.addCallback(self._started).addErrback(self._not_started)

    def _no_start(self) -> None:
        error: RequestError = BadRequest(f"no START within {START_TIMEOUT:g} s")
        if self._client.token is not None:
            error = self._refused(error)
        self.error(error)

    def _stop(self) -> None:
        if self._state is _State.ASKING:
            self._state = _State.WITHDRAWN
        elif self._capture is not None:
            self._capture.stop(EndReason.STOPPED)

    def _started(self, capture: Capture) -> None:
        released = partial(self._service.released, capture)
        if self._state not in _UNDECIDED:
            capture.abandon("the client left before the capture started")
            released()
            left = ClientLeft("the client left before the capture started")
            left.user = capture.user
            raise left
        withdrawn = self._state is _State.WITHDRAWN
        self._state, self._capture = _State.CAPTURING, capture
        self._channel.admitted(released)
        self._channel.registerProducer(capture, True)
        capture.start()
        if withdrawn:
            capture.stop(EndReason.STOPPED)

    def _not_started(self, failure: Failure) -> None:
        error = self._service.refused(failure, self._client, self._requested)
        if self._state in (*_UNDECIDED, _State.CAPTURING):
            self.error(error)

    def _refused(self, error: BaseException) -> RequestError:
        return self._service.refused(Failure(error), self._client, self._requested)

    def _broken(self, error: RemoteProtocolError) -> None:
        """Refuse a client that broke the protocol."""
        assert self._websocket is not None
        refusal: RequestError = BadRequest(error.message, error.hint)
        if self._state is _State.GREETED:
            refusal = self._refused(refusal)
        if self._state in (_State.OVER, _State.CLOSED):
            self._websocket.close(_PROTOCOL_ERROR, error.message)
        else:
            self.error(refusal)

    # --- Sink --------------------------------------------------------------

    def source(self, number: int, source: Source) -> None:
        """Send SOURCE."""
        self._send(self._session.source(number, source))

    def packets(self, number: int, records: Bytes) -> bool:
        """Send records, without unpacking them."""
        return self._send(*self._session.packets(number, records))

    def stats(self, number: int, stats: Stats) -> None:
        """Send STATS."""
        self._send(self._session.stats(number, stats))

    def notice(self, notice: Notice) -> None:
        """Send NOTICE."""
        self._send(self._session.notice(notice))

    def end(self, end: End) -> None:
        """Send END, the last message."""
        # A long limit: the client may be slow, and closing early would lose packets still in buffers.
        self._finish(end, end.message, CLIENT_SILENCE_TIMEOUT)

    def error(self, error: RequestError) -> None:
        """Send ERROR, the last message."""
        # A short limit: no packets are in buffers, and clients that are not authenticated get ERROR too.
        self._finish(Error(error.code, error.message, error.hint), error.message, HANDSHAKE_TIMEOUT)

    # --- writing -----------------------------------------------------------

    def _send(self, *pieces: Bytes) -> bool:
        """Queue whole frames, so that no message ends within a frame; False if the client is gone."""
        if self._state is _State.CLOSED:
            return False
        for piece in pieces:
            self._out.append(piece)
            self._out_size += len(piece)
        if self._out_size >= RECORD:  # a larger message is not worth the delay of a turn
            self._flush()
        elif self._flush_soon is None:
            self._flush_soon = self._reactor.callLater(0, self._turn_is_over)
        return True

    def _turn_is_over(self) -> None:
        self._flush_soon = None  # breaks a reference cycle, which the garbage collector would free only later
        self._flush()

    def _flush(self) -> None:
        if self._out and self._websocket is not None:
            self._websocket.send(self._out, self._out_size)
            self._out = []
            self._out_size = 0

    # --- the end -----------------------------------------------------------

    def _finish(self, last: End | Error, why: str, seconds: float) -> None:
        """Send the last message.  The client then closes the connection; after a time limit the api does."""
        self._send(self._session.end(last))
        self._flush()
        self._abandon(why)
        if self._state is not _State.CLOSED:
            self._state = _State.OVER
            self._drop_timer()
            self._timer = Deadline(self._reactor, seconds, self._channel.transport.abortConnection)

    def _abandon(self, why: str) -> None:
        """Release the capture; if it has not ended, end it."""
        if self._capture is not None:
            capture, self._capture = self._capture, None
            self._channel.unregisterProducer()
            self._channel.capture_ended()
            capture.abandon(why)

    def _ping_later(self) -> None:
        self._pinger = self._reactor.callLater(CLIENT_PING_INTERVAL, self._ping)

    def _ping(self) -> None:
        if self._time.at(self._reactor.seconds()) - self._heard_at > CLIENT_SILENCE_TIMEOUT:
            self._channel.transport.abortConnection()
        elif self._state is not _State.CLOSED and self._websocket is not None:
            self._websocket.ping()
            self._ping_later()

    def _drop_timer(self) -> None:
        cancel(self._timer)
