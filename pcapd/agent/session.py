"""A session with an api: one capture of one target.

::

    GREETED ──START──▶ OPENING ──▶ CAPTURING ──STOP──▶ DRAINING ──▶ ENDED
                          └── ERROR ─────────────────────────────────▲

The api is the daemon that requests captures from agents and forwards the packets to clients.
If it disconnects while sources are being opened, the thread that opens them still runs to
its end.  Until then, and until these sources are closed, the capture counts against the
agent's limit (`pcapd.agent.owner.SessionOwner.admit`).

In DRAINING no new packets enter the ring buffers of the sources.  The agent reads the
remaining packets and sends them, then the final counters and END.  The api closes the
connection after END; if it does not, the agent does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from pcapd.agent.containers.namespace import Gone
from pcapd.agent.delivering import DeliveringSession
from pcapd.agent.opening import Opened, Opening, close_sources, describe, open_capture
from pcapd.agent.owner import SessionOwner
from pcapd.agent.owntraffic import Ends
from pcapd.agent.presence import Presence
from pcapd.agent.reading import Reading, log_losses
from pcapd.capture.source import CaptureSource
from pcapd.errors import CaptureFailed, NamespaceGone, PcapdError, RequestError
from pcapd.limits import (
    CLIENT_SILENCE_TIMEOUT,
    RING_LAG,
    START_TIMEOUT,
    STATS_INTERVAL,
)
from pcapd.net.addresses import plain_address
from pcapd.net.clock import Deadline, cancel
from pcapd.wire import (
    CaptureStart,
    End,
    EndReason,
    Error,
    Event,
    Hello,
    NoticeType,
    Stop,
)

__all__ = ["AgentSession"]

T = TypeVar("T")


class _State(Enum):
    GREETED = auto()
    OPENING = auto()
    CAPTURING = auto()
    DRAINING = auto()
    ENDED = auto()


@implementer(IPushProducer)
class AgentSession(DeliveringSession):
    """The agent's end of a connection.

    Args:
        agent: The agent, whose configuration and limits apply.
    """

    def __init__(self, agent: SessionOwner[AgentSession]) -> None:
        super().__init__(agent)
        self._state = _State.GREETED
        self._presence: Presence | None = None
        self._ended_counters: list[Any] = []
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = agent.reactor
        self._timer: Any = None
        self._opening: Opening | None = None
        self._threads = 0  # number of threads that open or close sources for this session
        self._gone: Gone = lambda: None
        self._greeted = False
        self._end_reason = EndReason.STOPPED
        self.finished: Deferred[None] = Deferred()

    @property
    def _capturing(self) -> bool:
        return self._state is _State.CAPTURING

    # --- protocol ------------------------------------------------------

    def ready(self) -> None:
        """Send HELLO.  Called when the api has been authenticated."""
        self._agent.joined(self)
        self.transport.registerProducer(self, True)
        self.transport.write(self._session.hello(self._agent.hello()))
        cause = PcapdError(f"no START within {START_TIMEOUT:g} s")
        self._timer = Deadline(self._reactor, START_TIMEOUT, self.give_up, cause)

    def event(self, event: Event) -> None:
        """Handle a message of the api."""
        if isinstance(event.message, Hello):
            self._greeted = True
        elif isinstance(event.message, CaptureStart):
            self._timer.cancel()
            self._open(event.message)
        elif isinstance(event.message, Stop):
            self.stop(EndReason.STOPPED)

    def lost(self, reason: Exception) -> None:
        """Close all sources.  Called when the connection to the api is lost."""
        cancel(self._timer)
        if self._start is not None and self._state is not _State.ENDED:
            self._agent.log.info("capture abandoned: {reason}", reason=str(reason), **self._about())
            self._agent.metrics.ended.labels("abandoned").inc()
        elif self._start is None and not (self._greeted and self._cause is None):
            # An api that closes after both HELLOs has only asked whether the agent is there.
            self._agent.left_without_start(self._peer(), str(reason))
        self._state = _State.ENDED
        self._withheld.clear()
        self._close_all()
        if self._opening is not None:
            self._opening.gone = True
        self._release_if_over()
        self._agent.left(self)
        self.finished.callback(None)

    # --- opening -----------------------------------------------------------

    def _open(self, start: CaptureStart) -> None:
        self._start = start
        self._asked_at = self._reactor.seconds()
        self._agent.metrics.requested.inc()
        self._state = _State.OPENING
        try:
            self._agent.admit(self)
            path = self._agent.namespace(start.namespace)
        except RequestError as error:
            self._refuse(error)
            return
        self._opening = Opening(start, self._ends(), self._agent.config, self._agent.compiler, path)
        self.in_thread(partial(open_capture, self._opening), self._opened, self._not_opened)

    def _opened(self, opened: Opened) -> None:
        opening, self._opening = self._opening, None
        assert opening is not None
        if self._state is not _State.OPENING:  # stopped or disconnected while the sources were opened
            self._close_sources(opened.sources)
            if opened.links is not None:
                opened.links.close()
            if self._state is _State.DRAINING:
                self._finish()
            return
        self._state = _State.CAPTURING
        self._gone = opened.gone
        self._container = opened.container
        self._presence = Presence(self, self._reactor, opening, opened.links)
        self.begin(opened.sources)
        self._ticker.start(STATS_INTERVAL)

    def begin(self, sources: Sequence[CaptureSource]) -> None:
        """Start to capture from these sources; if the session is no longer capturing, close them instead."""
        if self._state is not _State.CAPTURING:
            self._close_sources(list(sources))
            return
        before = len(self.readings)
        for source in sources:
            self._add(source)
        self._agent.feedback.capture_begins()
        for reading in self.readings[before:]:
            reading.start()
        if self._paused:
            self.pauseProducing()

    def _add(self, source: CaptureSource) -> None:
        assert self._start is not None and self._presence is not None
        reading = Reading(
            self._agent.reactor,
            len(self._ended_counters) + len(self.readings) + 1,
            source,
            self._deliver,
            self._source_gone,
            headers_only=self._start.headers_only,
            inspect=self._agent.feedback.saw,
        )
        source.exclude(self._agent.feedback.excluded)
        self.readings.append(reading)
        self._presence.opened(reading)
        described = describe(source, self._start, self._agent.config.id)
        self.transport.write(self._session.source(reading.number, described))
        self._agent.log.info(
            "capturing {interface}", interface=source.interface.name, filter=source.filter, **self._about()
        )

    def _not_opened(self, failure: Failure) -> None:
        self._opening = None
        if self._state not in (_State.OPENING, _State.DRAINING):
            return
        error = failure.value
        if not isinstance(error, RequestError):
            self._agent.log.failure("opening a capture failed", failure)
            error = CaptureFailed("the agent failed to open the capture; its log has the details")
        self._refuse(error)

    def _refuse(self, error: RequestError) -> None:
        self._state = _State.ENDED
        self._agent.log.info("capture refused: {reason}", reason=error.message, **self._about())
        self._agent.metrics.refused.labels(error.code).inc()
        self.transport.write(self._session.end(Error(error.code, error.message, error.hint)))
        self._release_if_over()
        self._await_close()

    # --- capturing ---------------------------------------------------------

    def _tick(self) -> None:
        if self._agent.feedback.withholding:
            # Packets are withheld to test for a loop (a capture that captures its own traffic).
            # Counters could be captured too, and their watermark would be newer than these packets.
            return
        for reading in list(self.readings):
            self._report(reading)
        if self._presence is not None:
            self._presence.look()
        why = self._gone()
        if why is not None:
            gone = NamespaceGone(why)
            if self._presence is not None:
                self._presence.close()
            for reading in list(self.readings):
                self._source_gone(reading, gone)
        self._finish_if_alone()

    # --- sources that disappear ----------------------------------------------

    def _source_gone(self, reading: Reading, error: CaptureFailed) -> None:
        name = reading.source.interface.name
        then = self._presence.left(reading) if self._presence is not None else ""
        self.say(NoticeType.INSTANCE_UNAVAILABLE, f"{name} is gone: {error.message}{then}")
        # No packet may enter the ring after it was read for the last time.
        reading.source.stop()
        reading.drained()
        self._close(reading)
        self._finish_if_alone()

    def _finish_if_alone(self) -> None:
        """End the capture if no source is left and the session does not wait for an interface to appear."""
        waits = self._presence is not None and self._presence.waits
        if not self.readings and not waits and self._state is _State.CAPTURING:
            self._end_reason = EndReason.SOURCES_GONE
            self._finish()

    # --- ending ------------------------------------------------------------

    def stop(self, reason: EndReason) -> None:
        """Stop capturing, deliver the packets in the rings, then send END."""
        if self._state is _State.OPENING:
            self._state = _State.DRAINING
            self._end_reason = reason
        elif self._state is _State.CAPTURING:
            self._state = _State.DRAINING
            self._end_reason = reason
            self.release()
            for reading in self.readings:
                reading.source.stop()
                # After `stop` no packet is dropped, so these counters include all drops.  They are
                # sent before the last packets.
                self._report(reading)
            self._timer = self._reactor.callLater(RING_LAG, self._drain)
        elif self._state is _State.GREETED:
            self.give_up(PcapdError("the agent is shutting down"))

    def _drain(self) -> None:
        if self._state is not _State.DRAINING:
            return
        # If the transport is paused, it calls resumeProducing later, which schedules _drain again.
        unread = [reading for reading in self.readings if not reading.drained()]
        if not unread and not self._paused:
            self._finish()

    def _finish(self) -> None:
        self._state = _State.ENDED
        self._close_all()
        end = End(self._end_reason, sources=tuple(self._ended_counters))
        self._agent.log.info("capture ended: {reason}", reason=end.reason.value, **self._about())
        self._agent.metrics.ended.labels(end.reason.value).inc()
        self.transport.write(self._session.end(end))
        self._release_if_over()
        self._await_close()

    def _await_close(self) -> None:
        # If the agent closed the connection before the api does, unread data (such as a PING)
        # would make the kernel send a RST, and data that the api has not yet received would be
        # lost.  A slow client can delay the api, so the agent waits for the api as long as the
        # api waits for a client.
        self.transport.unregisterProducer()
        self._timer = Deadline(self._reactor, CLIENT_SILENCE_TIMEOUT, self.transport.abortConnection)

    def _close(self, *readings: Reading) -> None:
        self.release()
        for reading in readings:
            self.readings.remove(reading)
            reading.end()
            stats = self._report(reading, final=True)
            self._ended_counters.append(stats.counters(reading.number))
            log_losses(self._agent.log, stats, self._about())
        self._close_sources([reading.source for reading in readings])

    def _close_all(self) -> None:
        if self._ticker.running:
            self._ticker.stop()
        if self._presence is not None:
            self._presence.close()
        self._close(*self.readings)

    def _close_sources(self, sources: list[CaptureSource]) -> None:
        if sources:
            self.in_thread(partial(close_sources, sources))

    def in_thread(
        self,
        function: Callable[[], T],
        done: Callable[[T], Any] | None = None,
        failed: Callable[[Failure], Any] | None = None,
    ) -> None:
        """Run a blocking function on a thread.

        Until the function and its callback have ended, the capture counts against the
        agent's limit.
        """
        self._threads += 1
        assert self._start is not None
        result = self._agent.threads.run(self._start.user or self._start.capture, function)
        if done is not None:
            result.addCallbacks(done, failed)
        result.addBoth(self._thread_ended)

    def _thread_ended(self, result: T) -> T:
        self._threads -= 1
        self._release_if_over()
        return result

    def _release_if_over(self) -> None:
        """Stop counting the capture once the session and all its threads have ended.

        A disconnect of the api alone is not enough.
        """
        if self._state is _State.ENDED and not self._threads:
            self._agent.released(self)

    # --- IPushProducer -----------------------------------------------------

    _paused = False

    def pauseProducing(self) -> None:
        """Stop reading, because the api or the network is slow."""
        self._paused = True
        for reading in self.readings:
            reading.pause()

    def resumeProducing(self) -> None:
        """Continue reading."""
        self._paused = False
        for reading in self.readings:
            reading.resume()
        if self._state is _State.DRAINING and not (self._timer and self._timer.active()):
            self._timer = self._reactor.callLater(0, self._drain)

    def stopProducing(self) -> None:
        """Do nothing: `lost` is called when the connection is closed."""

    # --- addresses -------------------------------------------------------------

    def _ends(self) -> Ends:
        here, peer = self.transport.getHost(), self.transport.getPeer()
        return Ends(plain_address(here.host), here.port, plain_address(peer.host))

    def _peer(self) -> str:
        peer = self.transport.getPeer()
        return f"{peer.host}:{peer.port}"
