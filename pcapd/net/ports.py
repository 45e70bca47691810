"""Listening ports with a limited number of connections, either plain TCP or `TLSTransport`.

::

    accepted ──▶ SILENT ──first byte──▶ STRANGER ──authenticates──▶ KNOWN
                                             ◀──its capture is over──

A silent connection has sent nothing yet; only its socket exists.  After its first byte it is a
stranger and has a transport and a protocol.  It becomes known when its certificate is accepted,
or when its protocol calls `known`.  If a new connection would exceed the limit, the oldest silent
connection is closed, or, if there is none, the oldest stranger.  If all connections are known, no
more are accepted; new ones wait in the kernel's queue.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pcapd.limits import (
    ACCEPT_QUEUE,
    ACCEPTED_READ,
    ACCEPTS_PER_WAKEUP,
    CONNECTIONS_MAX,
    HANDSHAKE_TIMEOUT,
    NO_ROOM_PAUSE,
    PORT_FULL_INTERVAL,
    SEND_BUFFER,
    STRANGER_BUFFER,
    STRANGERS_MAX,
)
from pcapd.net.clock import cancel
from pcapd.net.reactor import SocketReactor
from pcapd.net.transport import TLSTransport, Verify

__all__ = ["BoundedPort", "TLSPort"]

#: Errors of accept(2) if this process or machine can have no more connections.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class BoundedPort(tcp.Port):
    """A listening port that holds at most `limits.CONNECTIONS_MAX` connections.

    The peer must send first.

    Attributes:
        shared: Whether other processes of the same user may listen on the same address; the kernel
            divides the connections among them (SO_REUSEPORT, socket(7)).
    """

    log = Logger()
    reactor: SocketReactor
    factory: Any
    shared = False
    limit = CONNECTIONS_MAX
    strangers_limit = STRANGERS_MAX

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.backlog = ACCEPT_QUEUE
        self._silent: dict[_Silent, None] = {}  # the oldest first
        self._strangers: dict[Any, None] = {}  # the oldest first
        self._known: set[Any] = set()
        self._closing: list[_Silent] = []
        self._closer: Any = None
        self._sweeper: Any = None
        self._closed_since = 0
        self._logged_at: float | None = None

    def createInternetSocket(self) -> socket.socket:
        """See `shared`."""
        made: socket.socket = super().createInternetSocket()
        if self.shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return made

    @property
    def open(self) -> int:
        """The number of connections, without those that were closed to make room."""
        return len(self._silent) + len(self._strangers) + len(self._known)

    @property
    def waiting(self) -> int:
        """The number of bytes that wait to be sent, on all connections."""
        return sum(transport.waiting for transport in (*self._strangers, *self._known))

    def connectionLost(self, reason: Any) -> None:
        """Close the silent connections.  Called when the port stops listening."""
        super().connectionLost(reason)
        for silent in list(self._silent):
            self._drop(silent)
        for call in (self._sweeper, self._closer):
            cancel(call)
        self._close()

    # --- silent ------------------------------------------------------------

    def doRead(self) -> None:
        """Accept waiting connections while there is room, or while others can be closed to make room."""
        for _ in range(ACCEPTS_PER_WAKEUP):
            if self.open >= self.limit and not (self._silent or self._strangers):
                self._log_that_it_is_full()
                self.stopReading()
                return
            try:
                sock, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:  # usually the peer has closed the connection already
                if error.errno in _NO_ROOM:
                    self._make_room()
                    self.stopReading()
                    self.reactor.callLater(NO_ROOM_PAUSE, self._accept_or_wait)
                return
            if self.open >= self.limit:
                self._make_room()
            self._accepted(sock, address)

    def _accepted(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        sock.setblocking(False)
        silent = _Silent(self, sock, address, self.reactor.seconds())
        self._silent[silent] = None
        self.reactor.addReader(silent)
        self._sweep_later()

    def _sweep_later(self) -> None:
        if self._sweeper is None and self._silent:
            oldest = next(iter(self._silent))
            left = oldest.since + HANDSHAKE_TIMEOUT - self.reactor.seconds()
            self._sweeper = self.reactor.callLater(max(0.0, left), self._sweep)

    def _sweep(self) -> None:
        """Close the connections that have been silent for too long."""
        self._sweeper = None
        too_old = self.reactor.seconds() - HANDSHAKE_TIMEOUT
        while self._silent and (oldest := next(iter(self._silent))).since <= too_old:
            self._drop(oldest)
        self._sweep_later()

    def _drop(self, silent: _Silent) -> None:
        """Close a connection in the reactor's next turn: in this one an event for it may be pending."""
        del self._silent[silent]
        self.reactor.removeReader(silent)
        if not self._closing:
            self._closer = self.reactor.callLater(0, self._close)
        self._closing.append(silent)

    def _close(self) -> None:
        closing, self._closing = self._closing, []
        for silent in closing:
            silent.socket.close()

    def spoke(self, silent: _Silent) -> None:
        """Handle the first byte or the end of a silent connection."""
        try:
            first = silent.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if not first:
            self.left(silent)
            return
        del self._silent[silent]
        self.reactor.removeReader(silent)
        self._introduce(silent.socket, silent.address)

    def left(self, silent: _Silent) -> None:
        """Remove a silent connection that the peer has closed."""
        if silent in self._silent:
            self._drop(silent)
            self._accept_or_wait()

    # --- strangers and known connections -------------------------------------

    def _introduce(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        kind = IPv6Address if len(address) == 4 else IPv4Address
        protocol = self.factory.buildProtocol(kind("TCP", *address))
        transport = self.transport(sock, protocol, address, self, self.sessionno, self.reactor)
        self._strangers[transport] = None
        if len(self._strangers) > self.strangers_limit:
            self._close_oldest_stranger()
        protocol.makeConnection(transport)

    def transport(  # type: ignore[override]  # a class there, its factory here
        self, sock: socket.socket, protocol: Any, *args: Any
    ) -> Any:
        """Build the transport of a stranger."""
        return _PlainTransport(sock, protocol, *args)

    def known(self, transport: Any) -> None:
        """Keep a connection from being closed to make room, because its peer has authenticated."""
        if transport in self._strangers:
            del self._strangers[transport]
            self._known.add(transport)

    def stranger(self, transport: Any) -> None:
        """Allow a connection to be closed to make room, because its capture is over."""
        if transport in self._known:
            self._known.discard(transport)
            self._strangers[transport] = None
            self._accept_or_wait()

    def closed(self, transport: Any) -> None:
        """Remove a connection that is closed."""
        self._strangers.pop(transport, None)
        self._known.discard(transport)
        self._accept_or_wait()

    def _accept_or_wait(self) -> None:
        if self.connected:
            self.startReading()

    # --- room ----------------------------------------------------------------

    def _make_room(self) -> None:
        """Close the oldest connection that is not known."""
        if self._silent:
            self._log_that_it_is_full()
            self._closed_since += 1
            self._drop(next(iter(self._silent)))
        elif self._strangers:
            self._close_oldest_stranger()

    def _close_oldest_stranger(self) -> None:
        self._log_that_it_is_full()
        self._closed_since += 1
        oldest = next(iter(self._strangers))
        del self._strangers[oldest]
        oldest.abortConnection()

    def _log_that_it_is_full(self) -> None:
        # In a flood of connections the limit is reached many times a second.
        now = time.monotonic()
        if self._logged_at is None or now - self._logged_at >= PORT_FULL_INTERVAL:
            self._logged_at = now
            closed, self._closed_since = self._closed_since, 0
            self.log.warn(
                "{open} connections to port {port} are open, {strangers} of them not authenticated, "
                "which is the limit; {closed} were closed for new ones",
                open=self.open,
                strangers=self.open - len(self._known),
                port=self.getHost().port,
                closed=closed,
            )


@implementer(IReadDescriptor)
class _Silent:
    """An accepted connection that has sent nothing yet; the reactor watches its socket."""

    __slots__ = ("address", "port", "since", "socket")

    def __init__(
        self, port: BoundedPort, sock: socket.socket, address: tuple[Any, ...], since: float
    ) -> None:
        self.port = port
        self.socket = sock
        self.address = address
        self.since = since

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> None:
        self.port.spoke(self)

    def connectionLost(self, reason: Failure) -> None:
        self.port.left(self)

    def logPrefix(self) -> str:
        return "silent"


class _Accepted:
    """The common part of the transports of accepted connections.

    Attributes:
        port: The port that accepted the connection.
    """

    port: BoundedPort
    connected: Any
    _known_buffer: int
    _maybePauseProducer: Callable[[], None]
    bufferSize = STRANGER_BUFFER

    def known(self) -> None:
        """Raise the send buffer and keep the connection, because the peer has authenticated."""
        self.bufferSize = self._known_buffer
        self.port.known(self)

    def stranger(self) -> None:
        """Lower the send buffer, because the capture is over; pause the producer if more bytes wait."""
        if self.connected:
            self.bufferSize = STRANGER_BUFFER
            self.port.stranger(self)
            self._maybePauseProducer()


class _PlainTransport(_Accepted, tcp.Server):
    server: Any
    _known_buffer = tcp.Server.bufferSize

    @property
    def port(self) -> BoundedPort:  # type: ignore[override]
        port: BoundedPort = self.server
        return port

    @property
    def waiting(self) -> int:
        # Twisted counts the first bytes, and only then the ones after them, which it joins later.
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self.server.closed(self)


class _TLSTransport(_Accepted, TLSTransport):
    read_size = ACCEPTED_READ
    _known_buffer = SEND_BUFFER

    @property
    def waiting(self) -> int:
        return self._out.size

    def authenticated(self) -> None:
        self.known()

    def released(self) -> None:
        self.port.closed(self)


class TLSPort(BoundedPort):
    """A listening port whose connections are `TLSTransport`.

    Args:
        context: Returns the TLS context.  Called for each connection, so that renewed
            certificates are used.
        verify: Called after each handshake; raises `PeerIdentityError` to refuse the peer.
            Otherwise the connection is known.  None: only its protocol can make it known.
    """

    def __init__(  # noqa: PLR0917
        self,
        port: int,
        factory: Any,
        interface: str,
        reactor: SocketReactor,
        context: Callable[[], SSL.Context],
        verify: Verify | None = None,
    ) -> None:
        super().__init__(port, factory, interface=interface, reactor=reactor)
        self._context = context
        self._verify = verify

    def transport(  # type: ignore[override]  # a class there, its factory here
        self, sock: socket.socket, protocol: Any, *args: Any
    ) -> Any:
        """Build the transport of a stranger."""
        connection = SSL.Connection(self._context(), sock)
        connection.set_accept_state()
        transport = _TLSTransport(self.reactor, sock, protocol, connection, self._verify, peer=args[0])
        transport.port = self
        return transport
