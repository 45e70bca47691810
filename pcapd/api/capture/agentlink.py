"""The connection to one agent, for one target of one capture."""

from __future__ import annotations

from typing import Any, Protocol

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.api.resolvers.base import Target
from pcapd.errors import AgentUnavailable, PcapdError, RequestError, request_error
from pcapd.limits import AGENT_SILENCE_TIMEOUT, HANDSHAKE_TIMEOUT, OPEN_TIMEOUT
from pcapd.net.clock import Deadline, now_us
from pcapd.net.framed import FramedProtocol
from pcapd.wire import Caller, CaptureStart, End, Error, Event, Hello, Packets, Pong, Progress, Source

__all__ = ["AgentLink", "LinkOwner"]


class LinkOwner(Protocol):
    """Who is told what an agent says: the capture."""

    def link_ready(self, link: AgentLink) -> None:
        """The agent said HELLO, and may be asked (`AgentLink.ask`) to capture."""

    def link_event(self, link: AgentLink, event: Event) -> None:
        """SOURCE, PACKETS, STATS or NOTICE."""

    def link_ended(self, link: AgentLink, end: End) -> None:
        """It delivered everything and said END."""

    def link_failed(self, link: AgentLink, error: RequestError) -> None:
        """It refused, broke the protocol, or was lost."""


class AgentLink(FramedProtocol):
    """Our end of the conversation with an agent.

    Args:
        reactor: For time.
        target: What to capture there.
        api_id: How we introduce ourselves.
        owner: Who is told.
    """

    _session: Caller

    def __init__(self, reactor: Any, target: Target, api_id: str, owner: LinkOwner) -> None:
        super().__init__(reactor, Caller(), AGENT_SILENCE_TIMEOUT)
        self.target = target
        self._api_id = api_id
        self._owner = owner
        self._over = False
        self._paused = False
        self._ready = False
        self._asked = False
        self._started = False
        self._best_round_trip: int | None = None
        self._timer: Any = None
        #: The agent's clock minus ours, microseconds; None until it is measured.
        self.clock_offset_us: int | None = None
        #: Whether the agent moves, by `ran`: what counts after STOP.
        self.progress = Progress(self.ran)

    # --- conversation ------------------------------------------------------

    def ready(self) -> None:
        """TLS is done.  Ready is only who says HELLO: TLS 1.3 reports a refused certificate late."""
        self._expect(HANDSHAKE_TIMEOUT, "HELLO")

    def dataReceived(self, data: bytes) -> None:
        """Bytes arrived."""
        self.progress.received(len(data), self.ran)
        super().dataReceived(data)

    def event(self, event: Event) -> None:
        """The agent said something."""
        self.progress.moved(self.ran)
        message = event.message
        if isinstance(message, Hello):
            self._greet()
        elif isinstance(message, Pong):
            self._measure_clock(message)
            if not self._ready:
                self._ready = True
                self._expect(None)  # what follows is the owner's turn
                self._owner.link_ready(self)
        elif isinstance(message, End):
            self._finish()
            self._owner.link_ended(self, message)
        elif isinstance(message, Error):
            self._finish()
            self._owner.link_failed(self, request_error(message.code, message.message, message.hint))
        else:
            if isinstance(message, Source):
                self._expect(None)
                self._started = True
            self._owner.link_event(self, event)
            if isinstance(message, Packets) and self._paused:
                self.transport.pauseProducing()

    def lost(self, reason: Exception) -> None:
        """The connection is gone."""
        self._expect(None)
        if not self._over:
            self._over = True
            words = reason.message if isinstance(reason, PcapdError) else str(reason)
            hint = reason.hint if isinstance(reason, PcapdError) else ""
            where = f"agent {self.target.host}:{self.target.port}"
            self._owner.link_failed(self, AgentUnavailable(f"{where}: {words}", hint))

    def _greet(self) -> None:
        hello = Hello(COMPATIBILITY_LEVEL, "api", self._api_id, __version__, now_us())
        # PING before START: later the agent is busy, and the clock offset would be less exact.
        self.transport.write(self._session.hello(hello) + self._session.ping(now_us()))
        self._expect(HANDSHAKE_TIMEOUT, "PONG")

    def _measure_clock(self, pong: Pong) -> None:
        now = now_us()
        round_trip = now - pong.sent_us
        # The shorter the way, the smaller the error (RFC 5905, section 10).
        if round_trip >= 0 and (self._best_round_trip is None or round_trip < self._best_round_trip):
            self._best_round_trip = round_trip
            self.clock_offset_us = pong.answered_us - (pong.sent_us + now) // 2

    def _expect(self, seconds: float | None, what: str = "") -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if seconds is not None:
            cause = PcapdError(f"waited {seconds:g} s for {what}")
            self._timer = Deadline(self._reactor, seconds, self.give_up, cause)

    # --- what the capture does with it -------------------------------------

    @property
    def excused(self) -> bool:
        """While we do not read, we cannot hear; and whoever opens a capture has its own time."""
        return self._paused or (self._timer is not None and bool(self._timer.active()))

    def ask(self, start: CaptureStart) -> None:
        """Let it capture.  Only after `LinkOwner.link_ready`, and once."""
        self._asked = True
        self.transport.write(self._session.start(start))
        self._expect(OPEN_TIMEOUT, "the capture to start")

    def ping(self) -> None:
        """Show that we are there, and ask whether it is."""
        if self._asked and not self._over:
            self.transport.write(self._session.ping(now_us()))

    def stop(self) -> None:
        """Ask it to stop; without a capture there, leave at once."""
        if self._asked:
            self.hear()
            self.progress.moved(self.ran)
            self.transport.write(self._session.stop())
        else:
            self.give_up(PcapdError("stopped before the capture started"))

    def pause(self) -> None:
        """Do not read from it; its kernel will drop, and count."""
        self._paused = True
        if self._started and not self._over:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self.hear()
        self.progress.moved(self.ran)
        if self._started and not self._over:
            self.transport.resumeProducing()

    def abandon(self) -> None:
        """Leave it without a word; nothing more is told to the owner."""
        self._over = True
        self.transport.abortConnection()

    def _finish(self) -> None:
        self._over = True
        self.transport.loseConnection()
