"""TLS directly on the socket.

Twisted's TLS uses memory BIOs: each byte is copied four more times and delivered in
pieces of 16 KiB.  With 1,400-byte packets this was the largest cost between agent and
client (docs/performance.rst).  Here OpenSSL reads and writes the socket itself.
Small pieces are joined before they become a TLS record; large pieces are encrypted
with one call, without a copy.

The transport calls its protocol's ``makeConnection`` first, ``handshakeCompleted``
(`IHandshakeListener`) when the peer is authenticated, before any data, and
``connectionLost`` at the end in every case, even if the connection could not be made.
The reason passed to ``connectionLost`` is a `PcapdError` if there is a better message
than OpenSSL's.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any

from OpenSSL import SSL
from twisted.internet import abstract, main
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pcapd.errors import PcapdError
from pcapd.limits import HANDSHAKE_TIMEOUT, READ_PIECE, SEND_BUFFER, WRITE_PIECE
from pcapd.net.clock import Deadline
from pcapd.net.reactor import SocketReactor
from pcapd.net.receiving import SCRATCH, BulkReceiver, decrypt
from pcapd.net.sendqueue import RECORD, SendQueue
from pcapd.net.sockets import as_address, corked, tune, why_lost
from pcapd.net.tls import verdict

__all__ = ["TLSTransport", "Verify"]


_AS_IT_IS = contextlib.nullcontext()

Verify = Callable[[SSL.Connection], None]


@implementer(IConsumer, IPushProducer, ISSLTransport, ITCPTransport)
class TLSTransport(abstract.FileDescriptor):
    """A TLS connection as a Twisted transport.

    Args:
        reactor: Watches the socket.
        sock: A socket that is connected or is being connected.
        protocol: Receives the data.
        connection: pyOpenSSL's connection, already set to accept or connect.
        verify: Called after the handshake; raises `PeerIdentityError` to refuse the peer.
        peer: The peer's address from accept(2); None if the TCP connection is not yet established.
        timeout: Seconds for TCP, TLS and the check of the peer's name.
    """

    bufferSize = SEND_BUFFER
    #: bytes read per wake-up.
    read_size = READ_PIECE
    #: Twisted's HTTP server reads the result of ALPN here, to choose between HTTP/1.1 and HTTP/2.
    negotiatedProtocol = None
    TLS = True

    def __init__(
        self,
        reactor: SocketReactor,
        sock: socket.socket,
        protocol: IProtocol,
        connection: SSL.Connection,
        verify: Verify | None,
        *,
        peer: tuple[Any, ...] | None,
        timeout: float = HANDSHAKE_TIMEOUT,
    ) -> None:
        super().__init__(reactor)
        self.reactor: SocketReactor = reactor
        self.producer: Any = None
        sock.setblocking(False)
        self.socket = sock
        self.protocol: Any = protocol
        self._bulk: BulkReceiver | None = protocol if isinstance(protocol, BulkReceiver) else None
        self._tls = connection
        self._verify = verify
        self._handshaking = True
        self._out = SendQueue()
        #: Number of bytes that were written to the socket, without the overhead of TLS.
        self.sent = 0
        self._read_wants_write = False
        self._write_wants_read = False
        self._broken: SSL.Error | OSError | None = None
        self._reading = True
        self._unread = False
        self._aborted = False
        # getpeername(2) fails for a connection that the peer has already reset.
        self._peer = as_address(peer) if peer is not None else None
        self._host = as_address(sock.getsockname())
        self.connected = 1
        self._timer = Deadline(reactor, timeout, self._timed_out)
        tune(sock)
        self.startReading()
        if peer is None:
            self.startWriting()

    # --- reading ---------------------------------------------------------

    def doRead(self) -> Any:
        """Read.  Called when the socket is readable."""
        if self._handshaking:
            return self._shake_hands()
        if self._write_wants_read:
            self._write_wants_read = False
            self.startWriting()
        left = self.read_size
        while left > 0 and self._reading and not self.disconnecting:
            count, stopped = self._receive(left)
            left -= count
            if stopped is not None:
                return self._stopped_reading(stopped)
        self._read_soon()
        return None

    def _receive(self, at_most: int) -> tuple[int, Exception | None]:
        """Deliver received bytes; return their number, and as an exception why there are no more, or None."""
        bulk = self._bulk
        room = None if bulk is None else bulk.room()
        if bulk is not None and room is not None:
            count, stopped = decrypt(self._tls, room)
            if count:
                bulk.filled(count)
            return count, stopped
        room = SCRATCH[:at_most]
        count, stopped = decrypt(self._tls, room)
        if count:
            self.protocol.dataReceived(bytes(room[:count]) if bulk is None else room[:count])
        return count, stopped

    def _stopped_reading(self, stopped: Exception) -> Any:
        if isinstance(stopped, SSL.WantReadError):
            return None
        if isinstance(stopped, SSL.WantWriteError):  # OpenSSL must first answer a TLS 1.3 key update
            self._read_wants_write = True
            self.startWriting()
            return None
        if isinstance(stopped, SSL.ZeroReturnError):
            return main.CONNECTION_DONE
        return why_lost(stopped)

    def _read_soon(self) -> None:
        # OpenSSL reads ahead.  The reactor does not see bytes that OpenSSL has already read.
        self._unread = True
        if self._reading:
            self.reactor.callLater(0, self._read_on)

    def _read_on(self) -> None:
        if self._unread and self._reading and self.connected and not self.disconnecting:
            self._unread = False
            lost = self.doRead()
            if lost is not None:
                self._lose(lost)

    def pauseProducing(self) -> None:
        """Stop reading; TCP's receive window then closes, and the peer cannot send."""
        self._reading = False
        self.stopReading()

    def resumeProducing(self) -> None:
        """Continue reading."""
        if self.connected and not self.disconnecting:
            self._reading = True
            self.startReading()
            if self._unread:
                self._read_soon()

    # --- writing ---------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes; pause the registered producer if too many wait."""
        if data and self.connected and not self.disconnecting:
            self._out.add(data)
            self._added()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send several pieces."""
        if self.connected and not self.disconnecting:
            for data in iovec:
                if data:
                    self._out.add(data)
            self._added()

    def _added(self) -> None:
        # Send immediately if a record is full: to wait until the reactor reports that the
        # socket is writable would cost more than sending.
        if self._out.size >= RECORD and not (self._handshaking or self._out.offered or self._broken):
            try:
                self._send()
            except SSL.WantWriteError:
                self._out.offered = True
            except SSL.WantReadError:
                self._out.offered = self._write_wants_read = True
                return
            except (SSL.Error, OSError) as error:
                self._broken = error
        self._maybePauseProducer()
        if self._out and not self._handshaking:
            self.startWriting()

    def doWrite(self) -> Any:
        """Write.  Called when the socket is writable."""
        if self._aborted:  # while handling bytes read in the same turn of the reactor
            return None
        if self._handshaking:
            return self._shake_hands()
        if self._read_wants_write:
            self._read_wants_write = False
            lost = self.doRead()
            if lost is not None or self._aborted:
                return lost
        try:
            if self._broken is not None:
                raise self._broken
            self._send()
        except SSL.WantWriteError:
            self._out.offered = True
        except SSL.WantReadError:
            self._out.offered = self._write_wants_read = True
            self.stopWriting()
        except (SSL.Error, OSError) as error:
            return why_lost(error)
        if self.producerPaused and self._out.size <= self.bufferSize // 2 and self.producer is not None:
            self.producerPaused = False
            self.producer.resumeProducing()
        if not self._out:
            self.stopWriting()
            if self.disconnecting and self.producer is None:
                return self._say_goodbye()
        return None

    def _send(self) -> None:
        left = WRITE_PIECE
        with corked(self.socket) if self._out.size > RECORD else _AS_IT_IS:
            while self._out and left > 0:
                sent = self._tls.send(self._out.head())
                self._out.sent(sent)
                left -= sent
                self.sent += sent

    def _isSendBufferFull(self) -> bool:
        return self._out.size > self.bufferSize

    # --- life ------------------------------------------------------------

    def _shake_hands(self) -> Any:
        try:
            self.about_to_shake_hands()
            self._tls.do_handshake()
            if self._verify is not None:
                self._verify(self._tls)
        except SSL.WantReadError:
            self.stopWriting()
            return None
        except SSL.WantWriteError:
            self.startWriting()
            return None
        except (SSL.Error, OSError) as error:
            return why_lost(error, verdict(self._tls))
        except PcapdError as error:
            return error
        self._handshaking = False
        self._timer.cancel()
        if self._verify is not None:
            self.authenticated()
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()
        self._read_soon()  # the peer may have sent more together with its last message
        if self._out or self.disconnecting:
            self.startWriting()
        else:
            self.stopWriting()
        return None

    def _timed_out(self) -> None:
        self._lose(PcapdError(f"the {self.awaits} was not made in time"))

    def _say_goodbye(self) -> Any:
        # If close_notify cannot be sent, TCP's FIN still reports the end to the peer.
        with contextlib.suppress(SSL.Error, OSError):
            self._tls.shutdown()
        return main.CONNECTION_DONE

    def loseConnection(self) -> None:
        """Close when everything is sent and no producer is registered any more."""
        if self._handshaking:
            self.abortConnection()
        else:
            super().loseConnection()

    def abortConnection(self) -> None:
        """Close now, with a RST; unsent data is lost."""
        if self.connected and not self._aborted:
            self._aborted = True
            # A protocol that is handling received bytes checks this and stops.
            self.disconnecting = True
            self.stopReading()
            self.stopWriting()
            self.reactor.callLater(0, self._lose, ConnectionAborted())

    def _lose(self, reason: Exception) -> None:
        self.connectionLost(Failure(reason))

    def connectionLost(self, reason: Failure) -> None:
        """Clean up at the end of the connection, for any reason."""
        if not self.connected:  # both this class and the reactor call this method
            return
        super().connectionLost(reason)
        if self._timer.active():
            self._timer.cancel()
        if reason.check(ConnectionAborted):
            # RST instead of FIN: an incomplete answer must not look complete.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()
        self._out.clear()
        self._broken = None  # its traceback refers to this object: a reference cycle
        protocol, self.protocol, self._bulk = self.protocol, None, None
        self.released()
        protocol.connectionLost(reason)

    # --- for subclasses --------------------------------------------------

    #: The step that is not completed yet.
    awaits = "TLS handshake"

    def about_to_shake_hands(self) -> None:
        """Called before each step of the handshake.

        Raises:
            OSError: The TCP connection could not be made.
        """

    def authenticated(self) -> None:
        """Called when `verify` has accepted the peer."""

    def released(self) -> None:
        """Called once, when the socket is closed."""

    # --- what protocols need ----------------------------------------------

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    def getPeer(self) -> Any:
        """The peer's address; None before the TCP connection is established."""
        return self._peer

    def getHost(self) -> Any:
        """This end's address."""
        return self._host

    def getHandle(self) -> socket.socket:
        """The socket."""
        return self.socket

    def getPeerCertificate(self) -> Any:
        """The peer's certificate, or None."""
        return self._tls.get_peer_certificate(as_cryptography=True)

    def getTcpNoDelay(self) -> bool:
        """Always true."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: it is set from the start."""

    def getTcpKeepAlive(self) -> bool:
        """Always true."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing: it is set from the start."""

    def loseWriteConnection(self) -> None:
        """Close both directions: TLS has no half-closed connections."""
        self.loseConnection()

    def logPrefix(self) -> str:
        """The name in Twisted's log."""
        return "TLS"
