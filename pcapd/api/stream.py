"""A capture as frames over a WebSocket (``GET /v1/stream``).

Messages to the client hold whole frames, as many as come together in one turn
of the reactor: small writes are what costs most.  Messages from the client
are control frames only, so they are bounded.
"""

from __future__ import annotations

import struct
from typing import Any

import h11
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from twisted.web.websocket import WebSocketResource
from wsproto.utilities import ProtocolError

from pcapd.api.capture import Capture
from pcapd.api.web import ClientInfo, Front, deny
from pcapd.errors import BadRequest, RemoteProtocolError, RequestError
from pcapd.limits import (
    CLIENT_MESSAGE_MAX,
    CLIENT_PING_INTERVAL,
    CLIENT_SILENCE_TIMEOUT,
    FRAME_TYPICAL,
    HANDSHAKE_TIMEOUT,
    START_TIMEOUT,
)
from pcapd.net.clock import Deadline, now_us
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

__all__ = ["StreamResource"]

_NORMAL, _PROTOCOL_ERROR, _TOO_BIG = 1000, 1002, 1009


class StreamResource(WebSocketResource):
    """Upgrades a request to a `StreamProtocol`.

    Args:
        front: The api.
    """

    isLeaf = True

    def __init__(self, front: Front) -> None:
        super().__init__(self)  # type: ignore[arg-type]  # the factory's one method is below
        self._front = front

    def buildProtocol(self, request: Any) -> StreamProtocol:
        """See `twisted.web.websocket.WebSocketServerFactory`."""
        return StreamProtocol(self._front, ClientInfo.of(request), request.channel)

    def render_GET(self, request: Any) -> Any:
        """Answer an upgrade; anything else is told what this is."""
        try:
            self._front.accepting()
        except RequestError as error:
            return deny(request, error)
        if (request.getHeader("upgrade") or "").lower() != "websocket":
            return deny(request, BadRequest("this is a WebSocket endpoint", "use pcapctl, or GET /capture"))
        try:
            answer = super().render_GET(request)
        except (ProtocolError, h11.ProtocolError, UnicodeError) as error:  # such as two Host headers
            return deny(request, BadRequest(f"no request for a WebSocket: {error}"))
        if answer == NOT_DONE_YET:
            request.channel.upgraded()
            _bound(request.channel)
        return answer


def _bound(channel: Any) -> None:
    """Refuse a client that sends more than control frames ever need.

    Twisted joins the pieces of a message without a bound.
    """
    receive = channel.dataReceived
    protocol: StreamProtocol = channel.dataReceived.__self__._wsp

    def bounded(data: bytes) -> None:
        protocol.unread += len(data)
        if protocol.unread > CLIENT_MESSAGE_MAX:
            protocol.close(_TOO_BIG)
            return
        try:
            receive(data)
        except ProtocolError:  # wsproto has closed it already, and Twisted does so again
            channel.transport.abortConnection()
        protocol.heed_goodbye()

    channel.dataReceived = bounded


def _binary_header(length: int) -> bytes:
    """The header of a whole, unmasked binary message (RFC 6455, section 5.2)."""
    if length < 126:
        return struct.pack("!BB", 0x82, length)
    if length < 65536:
        return struct.pack("!BBH", 0x82, 126, length)
    return struct.pack("!BBQ", 0x82, 127, length)


class StreamProtocol:
    """The api's end of a client's WebSocket; the capture's sink.

    Args:
        front: The api.
        client: Who connected.
        channel: The HTTP channel that the connection was.
    """

    def __init__(self, front: Front, client: ClientInfo, channel: Any) -> None:
        self._front = front
        self._reactor = front.reactor
        self._client = client
        self._channel = channel
        self._session = Callee(Request)
        self._capture: Capture | None = None
        self._wire: Any = None
        self._out: list[Bytes] = []
        self._out_size = 0
        self._flush_soon: Any = None
        self._closing = False
        self._gone = False
        self._over = False  # END or ERROR is written
        self._stop_asked = False
        self._timer: Any = None
        self._pinger = LoopingCall(self._ping)
        self._pinger.clock = self._reactor
        self._time = RunningTime(CLIENT_PING_INTERVAL)
        self._heard_at = 0.0  # by that time
        #: Bytes that came since the last whole message.
        self.unread = 0

    # --- twisted.web.websocket.WebSocketProtocol ---------------------------

    def negotiationStarted(self, transport: Any) -> None:
        """There is a transport."""
        self._transport = transport

    def negotiationFinished(self) -> None:
        """The WebSocket is open: greet, and wait for START."""
        self._wire = self._transport.transport
        # Until now the HTTP channel was the producer of its own transport.
        IConsumer(self._wire).unregisterProducer()
        self._timer = Deadline(self._reactor, START_TIMEOUT, self._no_start)
        self._pinger.start(CLIENT_PING_INTERVAL, now=False)
        self._front.joined(self)
        self._send(self._session.hello(self._front.hello()))

    def bytesMessageReceived(self, data: bytes) -> None:
        """Frames from the client."""
        self.unread = 0
        self._heard_at = self._time.at(self._reactor.seconds())
        try:
            for event in self._session.receive(data):
                if isinstance(event.message, Request):
                    self._start(event.message)
                elif isinstance(event.message, Stop):
                    self._stop()
                elif isinstance(event.message, Ping):
                    self._send(self._session.pong(event.message, now_us()))
            self._session.eof()  # a message holds whole frames
        except RemoteProtocolError as error:
            self._refuse(BadRequest(error.message, error.hint))

    def textMessageReceived(self, message: str) -> None:
        """Not in this protocol."""
        self.close(_PROTOCOL_ERROR)

    def pongReceived(self, payload: bytes) -> None:
        """The client is alive."""
        self.unread = 0
        self._heard_at = self._time.at(self._reactor.seconds())

    def heed_goodbye(self) -> None:
        """Bytes came: when a Close was among them, let the capture go.

        Twisted has answered it, and closes when no producer is registered any more;
        the capture is one, and nobody tells it.
        """
        if self._wire is not None and self._wire.disconnecting and not (self._closing or self._gone):
            self._closing = True
            self._drop_timer()
            self._timer = Deadline(self._reactor, HANDSHAKE_TIMEOUT, self._wire.abortConnection)
            if self._capture is not None:
                IConsumer(self._wire).unregisterProducer()
                capture, self._capture = self._capture, None
                capture.abandon("the client is gone")

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone."""
        self._gone = True
        self._front.left(self)
        self._drop_timer()
        if self._flush_soon is not None and self._flush_soon.active():
            self._flush_soon.cancel()
        if self._pinger.running:
            self._pinger.stop()
        if self._capture is not None:
            self._capture.abandon("the client is gone")

    # --- the start ---------------------------------------------------------

    def _start(self, request: Request) -> None:
        self._drop_timer()
        token = self._client.token or request.token
        self._front.begin(request, token, self._client, self).addCallbacks(self._started, self._not_started)

    def _no_start(self) -> None:
        self._refuse(BadRequest(f"no START within {START_TIMEOUT:g} s"))

    def _stop(self) -> None:
        self._stop_asked = True
        if self._capture is not None:
            self._capture.stop(EndReason.STOPPED)

    def _started(self, capture: Capture) -> None:
        if self._gone or self._over or self._closing:
            capture.abandon("the client left before the capture started")
            return
        self._capture = capture
        IConsumer(self._wire).registerProducer(capture, True)
        capture.start()
        if self._stop_asked:
            capture.stop(EndReason.STOPPED)

    def _not_started(self, failure: Failure) -> None:
        error = self._front.refused(failure, self._client)
        if not self._over:
            self._refuse(error)

    def _refuse(self, error: RequestError) -> None:
        if self._capture is not None:
            capture, self._capture = self._capture, None
            capture.abandon(error.message)
        self.error(error)

    # --- Sink --------------------------------------------------------------

    def source(self, number: int, source: Source) -> None:
        """A source is open."""
        self._send(self._session.source(number, source))

    def packets(self, number: int, records: Bytes) -> bool:
        """Records, unopened."""
        return self._send(*self._session.packets(number, records))

    def stats(self, number: int, stats: Stats) -> None:
        """Counters and watermark."""
        self._send(self._session.stats(number, stats))

    def notice(self, notice: Notice) -> None:
        """Something the user should know."""
        self._send(self._session.notice(notice))

    def end(self, end: End) -> None:
        """The last message."""
        self._capture, self._over = None, True
        self._send(self._session.end(end))
        self._await_close()

    def error(self, error: RequestError) -> None:
        """The last message."""
        self._capture, self._over = None, True
        self._send(self._session.end(Error(error.code, error.message, error.hint)))
        self._await_close(HANDSHAKE_TIMEOUT)  # no packets are under way, and anybody can be refused

    # --- writing -----------------------------------------------------------

    def _send(self, *pieces: Bytes) -> bool:
        """Queue whole frames, if there is still somebody: a message never ends within one."""
        if self._gone or self._closing:
            return False
        for piece in pieces:
            self._out.append(piece)
            self._out_size += len(piece)
        if self._out_size >= FRAME_TYPICAL:
            self._flush()
        elif self._flush_soon is None or not self._flush_soon.active():
            self._flush_soon = self._reactor.callLater(0, self._flush)
        return True

    def _flush(self) -> None:
        if self._out and not self._gone:
            # Written past wsproto, which would copy every byte three times.
            self._wire.write(_binary_header(self._out_size))
            self._wire.writeSequence(self._out)
            self._out.clear()
            self._out_size = 0

    # --- the end -----------------------------------------------------------

    def _await_close(self, seconds: float = CLIENT_SILENCE_TIMEOUT) -> None:
        """The client closes when it has read the end; if it does not, we do."""
        if self._gone:
            return
        self._flush()
        IConsumer(self._wire).unregisterProducer()
        self._drop_timer()
        # Generous: it may be slow, and closing early would cut off what is under way.
        self._timer = Deadline(self._reactor, seconds, self._wire.abortConnection)

    def close(self, code: int) -> None:
        """Close the WebSocket; what is queued is sent first."""
        if not self._closing and not self._gone:
            self._flush()
            self._closing = True
            self._drop_timer()
            if self._capture is not None:
                IConsumer(self._wire).unregisterProducer()
            self._transport.loseConnection(code)
            self._timer = Deadline(self._reactor, HANDSHAKE_TIMEOUT, self._wire.abortConnection)

    def _ping(self) -> None:
        if self._time.at(self._reactor.seconds()) - self._heard_at > CLIENT_SILENCE_TIMEOUT:
            self._wire.abortConnection()
        else:
            self._transport.ping()

    def _drop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
