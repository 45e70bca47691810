"""A wire session on a transport: the common part of agent and api.

Received bytes are passed to the session (`pcapd.wire.sessions`), and its events to `event`.
PINGs are answered.  A peer that breaks the protocol or becomes silent is disconnected.
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
        reactor: Provides the time and timers.
        session: This end of the wire session.
        silence_timeout: Seconds without a byte from the peer after which it is disconnected;
            pauses of this process are not counted.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, session: Caller | Callee, silence_timeout: float) -> None:
        self._reactor = reactor
        self._session: Any = session
        self._silence_timeout = silence_timeout
        self._silence: Any = None
        self._time = RunningTime(SILENCE_TURN)
        self._heard_at = 0.0  # value of `_time` when the peer was last heard, seconds
        self._answers = Answers()
        self._taken = 0  # value of `transport.sent` at the last PING, bytes
        self.transport: Any = None

    # --- for subclasses ----------------------------------------------------

    def ready(self) -> None:
        """Called when the peer is authenticated."""

    def event(self, event: Event) -> None:
        """Called with each message of the peer, except PING."""
        raise NotImplementedError

    def lost(self, reason: Exception) -> None:
        """Called once, when the connection is closed."""

    # --- Twisted -----------------------------------------------------------

    def handshakeCompleted(self) -> None:
        """Start the session.  Called after the TLS handshake and the check of the peer's name."""
        self.hear()
        self._check_silence()
        self.ready()

    def dataReceived(self, data: Bytes) -> None:
        """Handle received bytes.  The caller may overwrite the buffer after the call."""
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
        """Answer a PING; raise `RemoteProtocolError` if there are too many or their answers are not read."""
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
        """Disconnect the peer; `lost` is called with the cause."""
        self._cause = self._cause or cause
        self.transport.abortConnection()

    def hear(self) -> None:
        """Restart the silence timeout, because the peer has sent something or could not be read until now."""
        self._heard_at = self.ran

    @property
    def ran(self) -> float:
        """Seconds of this connection in which this process ran, without its pauses."""
        return self._time.at(self._reactor.seconds())

    @property
    def silent(self) -> float:
        """Seconds since the last byte from the peer, without pauses of this process."""
        return self.ran - self._heard_at

    def _check_silence(self) -> None:
        if self.excused:
            self.hear()
        left = self._silence_timeout - self.silent
        if left <= 0:
            self.give_up(PcapdError(f"nothing was heard for {self._silence_timeout:g} s"))
            return
        # At least every SILENCE_TURN, so that a pause of this process counts as no more silence.
        self._silence = Deadline(self._reactor, min(left, SILENCE_TURN), self._check_silence)

    @property
    def excused(self) -> bool:
        """Whether silence is allowed, because this end does not read or another time limit applies."""
        return False
