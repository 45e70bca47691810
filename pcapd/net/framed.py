"""A wire session on a transport: what agent and api do alike.

Bytes go into the sans-IO session, its events to `event`; PINGs are answered,
a peer that breaks the protocol is dropped, and one that falls silent too.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pcapd.errors import PcapdError, RemoteProtocolError
from pcapd.net.clock import now_us
from pcapd.wire import Callee, Caller, Event, Ping

__all__ = ["FramedProtocol"]


@implementer(IHandshakeListener)
class FramedProtocol(Protocol):
    """Base of both ends of a connection between api and agent.

    Args:
        reactor: For time.
        session: Our end of the wire session.
        silence_timeout: Seconds without a byte from the peer after which it counts as dead.
    """

    log = Logger()

    def __init__(self, reactor: Any, session: Caller | Callee, silence_timeout: float) -> None:
        self._reactor = reactor
        self._session: Any = session
        self._silence_timeout = silence_timeout
        self._silence: Any = None
        #: When the last byte came, by the reactor's clock.
        self.heard_at: float = reactor.seconds()
        self.transport: Any = None

    # --- for subclasses ----------------------------------------------------

    def ready(self) -> None:
        """The peer is authenticated."""

    def event(self, event: Event) -> None:
        """The peer said something, other than PING."""
        raise NotImplementedError

    def lost(self, reason: Exception) -> None:
        """The connection is gone; called once."""

    # --- Twisted -----------------------------------------------------------

    def handshakeCompleted(self) -> None:
        """TLS is done and the peer has the right name."""
        self.heard_at = self._reactor.seconds()
        self._check_silence()
        self.ready()

    def dataReceived(self, data: bytes) -> None:
        """Bytes arrived."""
        self.heard_at = self._reactor.seconds()
        try:
            for event in self._session.receive(data):
                if isinstance(event.message, Ping):
                    self.transport.write(self._session.pong(event.message, now_us()))
                else:
                    self.event(event)
                if self.transport.disconnecting:
                    break
        except RemoteProtocolError as error:
            self.give_up(error)

    def connectionLost(self, reason: Failure = Failure(PcapdError("closed"))) -> None:  # noqa: B008
        """The transport is gone."""
        if self._silence is not None and self._silence.active():
            self._silence.cancel()
        cause = self._cause if self._cause is not None else reason.value
        if not isinstance(cause, PcapdError):
            cause = PcapdError("the connection was closed")
        self.lost(cause)

    # --- life --------------------------------------------------------------

    _cause: Exception | None = None

    def give_up(self, cause: Exception) -> None:
        """Drop the peer; `lost` will be told the cause."""
        self._cause = self._cause or cause
        self.transport.abortConnection()

    def _check_silence(self) -> None:
        now = self._reactor.seconds()
        since = now if self.excused else self.heard_at
        left = since + self._silence_timeout - now
        if left <= 0:
            self.give_up(PcapdError(f"nothing was heard for {self._silence_timeout:g} s"))
            return
        self._silence = self._reactor.callLater(left, self._check_silence)

    @property
    def excused(self) -> bool:
        """Whether silence means nothing: we do not read, or wait with another limit."""
        return False
