"""The api's end of a WebSocket (RFC 6455), on a connection that was HTTP.

Clients send only small protocol messages.  The size of a message and the number of frames
are therefore limited: a frame costs the api more than the client.  The api's own messages bypass
wsproto, which would copy every byte three times.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Protocol

import h11
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from pcapd.errors import BadRequest, RemoteProtocolError
from pcapd.limits import CLIENT_MESSAGE_MAX
from pcapd.net.httpserver import HttpConnection
from pcapd.wire import Answers
from pcapd.wire.frames import Bytes

__all__ = ["WebSocket", "WebSocketUser", "accept"]

#: RFC 6455, section 7.4.1.
_PROTOCOL_ERROR, _TOO_BIG = 1002, 1009


class WebSocketUser(Protocol):
    """Receives the events of a WebSocket."""

    def message(self, data: bytes) -> None:
        """Handle a whole binary message.

        Raises:
            RemoteProtocolError: The client sends too many messages; the WebSocket is closed.
        """

    def alive(self) -> None:
        """Handle a pong."""

    def closed(self) -> None:
        """Handle the start of the closing handshake: nothing more is sent or received."""

    def lost(self) -> None:
        """Handle the loss of the connection; this is the last call."""


def accept(request: Any) -> tuple[Connection, bytes]:
    """Check a request for a WebSocket.

    Returns:
        wsproto's object for the server's end, without the parts for the handshake, and
        the bytes of the answer.

    Raises:
        BadRequest: The request is not valid, for example with two Host headers.
    """
    raw = request.requestHeaders.getAllRawHeaders()
    headers = [(name, value) for name, values in raw for value in values]
    end = WSConnection(ConnectionType.SERVER)
    try:
        end.initiate_upgrade_connection(headers, request.path)
        accepted = end.send(AcceptConnection())
    except (ProtocolError, h11.ProtocolError, UnicodeError) as error:
        raise BadRequest(f"not a valid WebSocket request: {error}") from error
    assert end.connection is not None
    return end.connection, accepted


class WebSocket:
    """An open WebSocket.

    Args:
        channel: The HTTP connection that becomes this WebSocket.
        end: The object that `accept` returned.
        clock: The reactor, for timers.
        user: Receives the events.
    """

    def __init__(self, channel: HttpConnection, end: Connection, clock: Any, user: WebSocketUser) -> None:
        self._channel = channel
        self._end = end
        self._clock = clock
        self._user = user
        self._message = b""
        self._closing = False
        self._answers = Answers()
        channel.upgrade(self)

    # --- receiving (Successor) ---------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Handle bytes from the client."""
        if self._closing:
            return
        try:
            self._end.receive_data(data)
            for event in self._end.events():
                self.count()
                self._take(event)
                if self._closing:
                    break
        except RemoteProtocolError as error:
            self.close(_PROTOCOL_ERROR, error.message)

    def connectionLost(self, reason: Failure) -> None:
        """Handle the loss of the connection."""
        self._closing = True
        self._user.lost()

    def count(self) -> None:
        """Count a frame; the rate is limited, because a frame costs the api more than the client.

        Raises:
            RemoteProtocolError: The client sends too many frames.
        """
        self._answers.count(self._clock.seconds(), taken=not self._channel.full)

    def _take(self, event: Any) -> None:
        if isinstance(event, BytesMessage):
            self._gather(event)
        elif isinstance(event, Ping):
            self._channel.write(self._end.send(event.response()))
        elif isinstance(event, Pong):
            self._user.alive()
        elif isinstance(event, CloseConnection):  # wsproto returns this for an invalid frame too
            self._goodbye(event.response())
        elif isinstance(event, TextMessage):
            self.close(_PROTOCOL_ERROR, "only binary messages are accepted")

    def _gather(self, piece: BytesMessage) -> None:
        if len(self._message) + len(piece.data) > CLIENT_MESSAGE_MAX:
            self.close(_TOO_BIG, f"a message may have at most {CLIENT_MESSAGE_MAX} bytes")
            return
        self._message += piece.data
        if piece.message_finished:
            message, self._message = self._message, b""
            self._user.message(message)

    # --- sending -------------------------------------------------------------

    def send(self, pieces: Sequence[Bytes], size: int) -> None:
        """Send a binary message.

        Args:
            pieces: The content of the message, in order.
            size: Total number of bytes.
        """
        self._channel.writeSequence([_binary_header(size), *pieces])

    def ping(self) -> None:
        """Send a ping."""
        self._channel.write(self._end.send(Ping()))

    def close(self, code: int, reason: str) -> None:
        """Send the buffered data, then close the WebSocket."""
        if not self._closing:
            self._goodbye(CloseConnection(code, reason))

    def _goodbye(self, event: CloseConnection) -> None:
        self._closing = True
        self._user.closed()
        self._channel.write(self._end.send(event))
        self._channel.loseConnection()


def _binary_header(length: int) -> bytes:
    """The header of a binary message in one unmasked frame (RFC 6455, section 5.2)."""
    if length < 126:
        return struct.pack("!BB", 0x82, length)
    if length < 65536:
        return struct.pack("!BBH", 0x82, 126, length)
    return struct.pack("!BBQ", 0x82, 127, length)
