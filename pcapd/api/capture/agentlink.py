"""The connection to one agent, for one target of one capture.

::

    GREETING ──PONG──▶ READY ──START──▶ OPENING ──SOURCE──▶ CAPTURING
    any ──END, ERROR, lost, abandoned──▶ OVER
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.api.resolvers.base import Target
from pcapd.config.schema import AgentsConfig, ApiConfig
from pcapd.errors import AgentUnavailable, PcapdError, RequestError, request_error
from pcapd.limits import AGENT_SILENCE_TIMEOUT, HANDSHAKE_TIMEOUT, OPEN_TIMEOUT, OWN_ADDRESSES_MAX
from pcapd.net.addresses import machine_addresses
from pcapd.net.clock import Deadline, cancel, now_us
from pcapd.net.framed import FramedProtocol
from pcapd.net.outgoing import connect_tls, outgoing_socket
from pcapd.net.reactor import SocketReactor
from pcapd.net.tls import ClientContext, check_server_name
from pcapd.wire import (
    ApiTraffic,
    Caller,
    CaptureStart,
    End,
    Error,
    Event,
    Hello,
    Packets,
    Pong,
    Progress,
    Source,
)
from pcapd.wire.frames import Bytes

__all__ = ["AgentLink", "Agents", "LinkOwner", "own_traffic"]


class LinkOwner(Protocol):
    """Receives what an agent sends: the capture."""

    def link_ready(self, link: AgentLink) -> None:
        """The agent sent HELLO; `AgentLink.ask` may start the capture."""

    def link_event(self, link: AgentLink, event: Event) -> None:
        """The agent sent SOURCE, PACKETS, STATS or NOTICE."""

    def link_ended(self, link: AgentLink, end: End) -> None:
        """The agent delivered everything and sent END."""

    def link_failed(self, link: AgentLink, error: RequestError) -> None:
        """The agent refused, broke the protocol, or its connection was lost."""


class _State(Enum):
    GREETING = auto()
    READY = auto()  #: START may be sent
    OPENING = auto()
    CAPTURING = auto()
    OVER = auto()  #: the owner is not called any more


_ASKED = (_State.OPENING, _State.CAPTURING)


class AgentLink(FramedProtocol):
    """The api's end of the connection to an agent.

    Args:
        reactor: For time.
        target: What the agent is to capture.
        api_id: The name of this api, sent in HELLO.
        owner: Receives what the agent sends.
    """

    _session: Caller

    def __init__(self, reactor: IReactorTime, target: Target, api_id: str, owner: LinkOwner) -> None:
        super().__init__(reactor, Caller(), AGENT_SILENCE_TIMEOUT)
        self.target = target
        self._api_id = api_id
        self._owner = owner
        self._state = _State.GREETING
        self._paused = False  # whether the owner called `pause`, in any state
        self._best_round_trip: int | None = None
        self._timer: Any = None
        #: The agent's clock minus the api's clock, microseconds; None until measured.
        self.clock_offset_us: int | None = None
        #: The largest possible error of the offset, microseconds; None until measured.
        self.clock_error_us: int | None = None
        #: When the agent last made progress, in the time of `ran`; used after STOP.
        self.progress = Progress(self.ran)

    # --- conversation ------------------------------------------------------

    def ready(self) -> None:
        """Wait for HELLO after TLS: TLS 1.3 reports a refused client certificate late."""
        self._expect(HANDSHAKE_TIMEOUT, "HELLO")

    def dataReceived(self, data: Bytes) -> None:
        """Handle received bytes; the caller may reuse the buffer after the call."""
        self.progress.received(len(data), self.ran)
        super().dataReceived(data)

    def room(self) -> memoryview | None:
        """The buffer for the rest of an incomplete frame (`pcapd.net.receiving.BulkReceiver`)."""
        return self._session.room()

    def filled(self, count: int) -> None:
        """Handle `count` bytes received into the buffer of `room`."""
        self.progress.received(count, self.ran)
        self._received(self._session.filled(count))

    def event(self, event: Event) -> None:
        """Handle a message from the agent."""
        self.progress.moved(self.ran)
        message = event.message
        if isinstance(message, Hello):
            self._greet()
        elif isinstance(message, Pong):
            self._measure_clock(message)
            if self._state is _State.GREETING:
                self._state = _State.READY
                self._expect(None)  # the owner decides when to send START
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
                if self._state is _State.OPENING:
                    self._state = _State.CAPTURING
            self._owner.link_event(self, event)
            if isinstance(message, Packets) and self._paused:
                self.transport.pauseProducing()

    def lost(self, reason: Exception) -> None:
        """Handle the loss of the connection."""
        self._expect(None)
        if self._state is not _State.OVER:
            self._state = _State.OVER
            message = reason.message if isinstance(reason, PcapdError) else str(reason)
            hint = reason.hint if isinstance(reason, PcapdError) else ""
            where = f"agent {self.target.host}:{self.target.port}"
            self._owner.link_failed(self, AgentUnavailable(f"{where}: {message}", hint))

    def _greet(self) -> None:
        hello = Hello(COMPATIBILITY_LEVEL, "api", self._api_id, __version__, now_us())
        # PING before START: during a capture the agent is busy, and the measured clock offset less exact.
        self.transport.write(self._session.hello(hello) + self._session.ping(now_us()))
        self._expect(HANDSHAKE_TIMEOUT, "PONG")

    def _measure_clock(self, pong: Pong) -> None:
        now = now_us()
        round_trip = now - pong.sent_us
        # The shorter the round trip, the smaller the error (RFC 5905, section 10).
        if round_trip >= 0 and (self._best_round_trip is None or round_trip < self._best_round_trip):
            self._best_round_trip = round_trip
            self.clock_offset_us = pong.answered_us - (pong.sent_us + now) // 2
            self.clock_error_us = round_trip // 2 + 1

    def _expect(self, seconds: float | None, what: str = "") -> None:
        cancel(self._timer)
        if seconds is not None:
            cause = PcapdError(f"waited {seconds:g} s for {what}")
            self._timer = Deadline(self._reactor, seconds, self.give_up, cause)

    # --- called by the capture ---------------------------------------------

    @property
    def excused(self) -> bool:
        """Whether silence is allowed: while reading is paused, and while a step has its own deadline."""
        return self._paused or (self._timer is not None and bool(self._timer.active()))

    def ask(self, start: CaptureStart) -> None:
        """Send START.  Only after `LinkOwner.link_ready`, and once."""
        self._state = _State.OPENING
        self.transport.write(self._session.start(start))
        self._expect(OPEN_TIMEOUT, "the capture to start")

    def ping(self) -> None:
        """Send PING if START was sent."""
        if self._state in _ASKED:
            self.transport.write(self._session.ping(now_us()))

    def stop(self) -> None:
        """Send STOP; if START was not sent, close the connection."""
        if self._state in _ASKED:
            self.hear()
            self.progress.moved(self.ran)
            self.transport.write(self._session.stop())
        else:
            self.give_up(PcapdError("stopped before the capture started"))

    def pause(self) -> None:
        """Stop reading; if this lasts, the agent's kernel drops packets, and counts them."""
        self._paused = True
        if self._state is _State.CAPTURING:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Continue reading."""
        self._paused = False
        self.hear()
        self.progress.moved(self.ran)
        if self._state is _State.CAPTURING:
            self.transport.resumeProducing()

    def abandon(self) -> None:
        """Close the connection immediately; the owner is not called any more."""
        self._state = _State.OVER
        self.transport.abortConnection()

    def _finish(self) -> None:
        self._state = _State.OVER
        self.transport.loseConnection()


@dataclass(frozen=True)
class Agents:
    """How to connect to agents, and what they must not capture.

    Attributes:
        traffic: Returns the api's current connections.
    """

    reactor: SocketReactor
    api_id: str
    config: AgentsConfig
    context: ClientContext
    traffic: Callable[[], ApiTraffic]

    def link(self, target: Target, owner: LinkOwner) -> tuple[AgentLink, socket.socket]:
        """Make a link that is not connected yet, and its socket.

        Raises:
            OSError: The api has no descriptor or port left.
        """
        sock = outgoing_socket(target.host)
        return AgentLink(self.reactor, target, self.api_id, owner), sock

    def dial(self, link: AgentLink, sock: socket.socket) -> None:
        """Connect a link."""
        connect_tls(
            self.reactor,
            sock,
            (link.target.host, link.target.port),
            link,
            self.context(),
            lambda connection: check_server_name(connection, self.config.tls.server_name),
            self.config.connect_timeout,
        )


def own_traffic(config: ApiConfig, port: int) -> ApiTraffic:
    """The connections of an api.

    Args:
        port: The port on which it listens.
    """
    listens_at = config.listen.host
    return ApiTraffic(
        # One more than the limit shows agents that there are too many.
        addresses=tuple(machine_addresses()[: OWN_ADDRESSES_MAX + 1]),
        port=port,
        listens_at=None if ip_address(listens_at).is_unspecified else listens_at,
        agent_ports=config.agent_ports,
    )
