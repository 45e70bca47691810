"""A wire session on a transport: the common part of agent and api.

Bytes go into the sans-IO session, its events to `event`.  PINGs are answered.  A
peer that breaks the protocol or falls silent is disconnected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pcapd.errors import PcapdError, RemoteProtocolError
from pcapd.limits import SILENCE_TURN
from pcapd.net.clock import Deadline, cancel, now_us
from pcapd.running import RunningTime
from pcapd.wire import Answers, Callee, Caller, Event, Ping
from pcapd.wire.frames import Bytes

__all__ = ["FramedProtocol"]


@implementer(IHandshakeListener)
class FramedProtocol(Protocol):
    """Base of both ends of a connection between api and agent.

    Args:
        reactor: For time.
        session: Our end of the wire session.
        silence_timeout: Seconds without a byte from the peer after which it counts as dead,
            not counting our own pauses.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, session: Caller | Callee, silence_timeout: float) -> None:
        self._reactor = reactor
        self._session: Any = session
        self._silence_timeout = silence_timeout
        self._silence: Any = None
        self._time = RunningTime(SILENCE_TURN)
        self._heard_at = 0.0  # by that time
        self._answers = Answers()
        self._taken = 0  # bytes by the network, when the last PING came
        self.transport: Any = None

    # --- for subclasses ----------------------------------------------------

    def ready(self) -> None:
        """Called when the peer is authenticated."""

    def event(self, event: Event) -> None:
        """Called with each message of the peer, except PING."""
        raise NotImplementedError

    def lost(self, reason: Exception) -> None:
        """Called once, when the connection is gone."""

    # --- Twisted -----------------------------------------------------------

    def handshakeCompleted(self) -> None:
        """Start the session, because TLS is done and the peer has the right name."""
        self.hear()
        self._check_silence()
        self.ready()

    def dataReceived(self, data: Bytes) -> None:
        """Handle received bytes; they may change after the call."""
        self._received(self._session.receive(data))

    def _received(self, events: Iterator[Event]) -> None:
        self.hear()
        try:
            for event in events:
                if isinstance(event.message, Ping):
                    self._answer(event.message)
                else:
                    self.event(event)
                if self.transport.disconnecting:
                    break
        except RemoteProtocolError as error:
            self.give_up(error)

    def _answer(self, ping: Ping) -> None:
        """Answer a PING, unless there are too many, or the peer does not read the answers."""
        before, self._taken = self._taken, self.transport.sent
        self._answers.count(self._reactor.seconds(), taken=self._taken > before)
        self.transport.write(self._session.pong(ping, now_us()))

    def connectionLost(self, reason: Failure = Failure(PcapdError("closed"))) -> None:  # noqa: B008
        """Handle the loss of the transport."""
        cancel(self._silence)
        cause = self._cause if self._cause is not None else reason.value
        if not isinstance(cause, PcapdError):
            cause = PcapdError("the connection was closed")
        self.lost(cause)

    # --- life --------------------------------------------------------------

    _cause: Exception | None = None

    def give_up(self, cause: Exception) -> None:
        """Disconnect the peer; `lost` gets the cause."""
        self._cause = self._cause or cause
        self.transport.abortConnection()

    def hear(self) -> None:
        """Restart the peer's silence, because it is alive or could not be read until now."""
        self._heard_at = self.ran

    @property
    def ran(self) -> float:
        """Seconds of this connection in which we ran, without our own pauses."""
        return self._time.at(self._reactor.seconds())

    @property
    def silent(self) -> float:
        """Seconds since the last byte in which we could have read another."""
        return self.ran - self._heard_at

    def _check_silence(self) -> None:
        if self.excused:
            self.hear()
        left = self._silence_timeout - self.silent
        if left <= 0:
            self.give_up(PcapdError(f"nothing was heard for {self._silence_timeout:g} s"))
            return
        # Often, so that a pause of our own counts as one turn of silence at most.
        self._silence = Deadline(self._reactor, min(left, SILENCE_TURN), self._check_silence)

    @property
    def excused(self) -> bool:
        """Whether silence is allowed: we do not read, or another time limit applies."""
        return False
