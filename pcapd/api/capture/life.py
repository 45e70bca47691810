"""One user's capture over many agents.

Goals: a failing, slow or silent agent never stops the others; every loss is
counted; nothing is queued here.  Frames are checked (C code checks the lengths of their
records) and forwarded under a new source id, without being unpacked.

Back-pressure: when the sink pauses the capture, every agent's transport is paused.  At most
one more read of each agent can follow.  So a capture holds at most one read per agent and
the client's send buffer.

The end is the same for every reason: the api sends STOP to all agents, which drain
and send END.  An agent that makes no progress (`limits.STOP_STALL_TIMEOUT`) or takes
too long (`limits.DRAIN_TIMEOUT`) is disconnected, so that a stop takes bounded time.
Then END is sent to the sink, or ERROR if no source was ever opened.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from pcapd.api.capture.agentlink import AgentLink, Agents
from pcapd.api.capture.audit import Trail
from pcapd.api.capture.facts import Facts, worst_error
from pcapd.api.capture.gathering import Gathering
from pcapd.api.capture.machine import Machine, State, Step
from pcapd.api.capture.sink import Sink, Watcher
from pcapd.api.capture.sources import OpenSource, Sources
from pcapd.api.capture.stopping import StopWatch
from pcapd.api.metrics import Metrics
from pcapd.api.policy import unconfirmed
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.config.schema import ApiLimits
from pcapd.errors import AgentUnavailable, AuditUnavailable, RecordError, RemoteProtocolError, RequestError
from pcapd.limits import AGENT_PING_INTERVAL, DRAIN_TIMEOUT, SNAPLEN_MAX
from pcapd.net.clock import cancel
from pcapd.records import check
from pcapd.wire import End, EndReason, Event, Notice, NoticeType, Packets, Request, Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["Capture"]

_ORIGIN = "api"


@implementer(IPushProducer)
class Capture:
    """See the module.

    Args:
        agents: Makes connections to agents.
        metrics: The counters for Prometheus.
        limits: The operator's limits; a request can only lower them.
        request: The request, after the policy was applied.
        resolved: The user and the targets.
        sink: Receives the capture.
        exclude_filters: Packets that match one of them are not captured.
        id: The capture's id.
        request_id: Connects the log lines of several components.
        trail: Writes its audit records.
        asked_from: Where the request came from, as fields of a record.
    """

    log = Logger()

    def __init__(  # noqa: PLR0917
        self,
        agents: Agents,
        metrics: Metrics,
        limits: ApiLimits,
        request: Request,
        resolved: Resolved,
        sink: Sink,
        *,
        exclude_filters: tuple[str, ...] = (),
        id: str,
        request_id: str,
        trail: Trail,
        asked_from: Mapping[str, str],
    ) -> None:
        self._agents = agents
        self._metrics = metrics
        self._reactor = agents.reactor
        self._limits = limits
        self.request = request
        self._notices = resolved.notices
        self._sink = sink
        self.unattended = sink.unattended
        self.user = resolved.user
        self.identity = resolved.identity
        self.targets = resolved.targets
        self._trail = trail
        self.facts = Facts(
            capture=id,
            request_id=request_id,
            resolved=resolved,
            request=request,
            exclude=exclude_filters,
            duration=min(request.duration or limits.max_duration, limits.max_duration),
            max_bytes=min(request.max_bytes or limits.max_bytes, limits.max_bytes),
            asked_from=asked_from,
        )
        self._machine = Machine()
        self._reason = EndReason.STOPPED
        self._message = ""
        self._links: list[AgentLink] = []
        self._awaited: set[AgentLink] = set()  # links made at the start, neither open nor failed
        self._gathering = Gathering(self._reactor, len(self.targets), self._links, self._ask)
        self._sources = Sources(metrics, self._reactor.seconds)
        self._errors: list[RequestError] = []
        self._paused = False
        self._timer: Any = None
        self._stop_watch = StopWatch(self._reactor, self._links, lambda: self._paused)
        self._pinger = LoopingCall(self._ping)
        self._pinger.clock = self._reactor
        #: Called when the capture of a target begins or ends; it may add targets.
        self.watcher: Watcher | None = None
        #: Fires when everything is over.
        self.finished: Deferred[None] = Deferred()

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Write the audit record, then connect to all agents at the same time.

        Raises:
            AuditUnavailable: The record cannot be written; the capture does not start.
        """
        self._trail.record("capture_started", **self.facts.started())
        self._machine.step(Step.START)
        self._metrics.captures_started.inc()
        self._metrics.captures_active.inc()
        self._timer = self._reactor.callLater(self._limits.max_duration, self._time_is_up)
        self._pinger.start(AGENT_PING_INTERVAL, now=False)
        # All sockets are made first, because each notice contains the number of awaited instances.
        links, failed = [], []
        for target in self.targets:
            try:
                links.append(self._new_link(target))
            except OSError as error:
                failed.append((target, error))
        self._awaited.update(self._links)
        for notice in self._notices:
            self._notice(notice)
        for target, reason in failed:
            self._no_socket(target, reason)
        for link, sock in links:
            self._agents.dial(link, sock)
        self._finish_if_over()

    def add_target(self, target: Target) -> bool:
        """Add a target; returns whether an attempt is made."""
        if self._machine.state is not State.RUNNING:
            return False
        if len(self._links) >= self._limits.max_targets or not self._sources.room:
            self.say(
                NoticeType.LIMIT_REACHED, "is not captured: the limit of targets is reached", target.name
            )
            return False
        try:
            self._trail.record("capture_extended", **self.facts.extended(target))
        except AuditUnavailable as error:
            self.say(NoticeType.START_CAPTURE_FAILED, error.message, target.name)
            return False
        try:
            link, sock = self._new_link(target)
        except OSError as error:
            self._no_socket(target, error)
            return False
        self._agents.dial(link, sock)
        return True

    def settle(self) -> None:
        """Handle that no more targets will be added."""
        self._finish_if_over()

    def say(self, kind: NoticeType, message: str, origin: str = _ORIGIN) -> None:
        """Send a notice to the user."""
        self._notice(Notice(kind, message, origin))

    def _notice(self, notice: Notice) -> None:
        self._sink.notice(dataclasses.replace(notice, awaited=len(self._awaited)))

    def stop(self, reason: EndReason, message: str = "", within: float = DRAIN_TIMEOUT) -> None:
        """Stop the capture: send STOP to the agents; the capture ends when they have sent END.

        Args:
            within: The agents' time limit in seconds; it also applies to a capture that is
                already stopping.
        """
        self._stop_watch.limit(within)
        if not self._machine.step(Step.STOP):
            return
        self._reason, self._message = reason, message
        self._gathering.stop()
        self._stop_watch.start()
        for link in list(self._links):
            link.stop()
        self._finish_if_over()

    def abandon(self, why: str) -> None:
        """End the capture immediately, because the client is gone.

        Args:
            why: The reason, for the log.
        """
        if self._machine.state is State.NEW:
            self._machine.step(Step.OVER)
            self.finished.callback(None)
        elif self._machine.state is not State.ENDED:
            self._abandon(why)

    def _abandon(self, why: str) -> None:
        for link in self._links:
            link.abandon()
        self._links.clear()
        self._over("abandoned", why)

    def _new_link(self, target: Target) -> tuple[AgentLink, socket.socket]:
        link, sock = self._agents.link(target, self)
        self._links.append(link)
        return link, sock

    def _no_socket(self, target: Target, error: OSError) -> None:
        """Report a target for which the api has no file descriptor or port left."""
        failure = AgentUnavailable(f"the api has no socket for its agent: {error.strerror}")
        self._errors.append(failure)
        self._metrics.agents_failed.labels(failure.code).inc()
        self.say(NoticeType.START_CAPTURE_FAILED, failure.message, target.name)

    def _time_is_up(self) -> None:
        if self.request.duration is None or self.request.duration > self.facts.duration:
            self.say(NoticeType.LIMIT_REACHED, f"the api ends captures after {self.facts.duration:g} s")
        self.stop(EndReason.DURATION, f"{self.facts.duration:g} s are over")

    # --- called by links to agents (LinkOwner) -----------------------------

    def link_ready(self, link: AgentLink) -> None:
        """Handle HELLO of an agent."""
        self._gathering.arrived(link)

    def _ask(self, link: AgentLink) -> None:
        link.ask(self.facts.order(link.target, self._agents.api_id, self._agents.traffic()))

    def link_event(self, link: AgentLink, event: Event) -> None:
        """Handle SOURCE, PACKETS, STATS or NOTICE of an agent."""
        message = event.message
        if isinstance(message, Packets):
            self._packets(self._sources[link, event.source], message.records)
        elif isinstance(message, Stats):
            opened = self._sources[link, event.source]
            self._sink.stats(opened.number, self._sources.report(opened, message))
        elif isinstance(message, Source):
            self._opened(link, event.source, message)
        elif isinstance(message, Notice):
            self._notice(dataclasses.replace(message, origin=link.target.name))

    def link_ended(self, link: AgentLink, end: End) -> None:
        """Handle END of an agent, which has sent everything."""
        if self._machine.state is not State.STOPPING and end.reason is EndReason.DRAINING:
            self.say(NoticeType.INSTANCE_UNAVAILABLE, "its agent is shutting down", link.target.name)
        self._gone(link)

    def link_failed(self, link: AgentLink, error: RequestError) -> None:
        """Handle a refusal by an agent, or the loss of its connection."""
        self._metrics.agents_failed.labels(error.code).inc()
        self._errors.append(error)
        self._awaited.discard(link)
        started = bool(self._sources.of(link))
        if started or self._machine.state is not State.STOPPING:
            self.log.warn(
                "{target} failed: {reason}", target=link.target.name, reason=str(error), **self.facts.about
            )
        if started:
            self.say(NoticeType.CONNECTION_ERROR, str(error), link.target.name)
        elif self._machine.state is not State.STARTING or len(self._links) > 1:
            self.say(NoticeType.START_CAPTURE_FAILED, str(error), link.target.name)
        self._gone(link)

    def _opened(self, link: AgentLink, number: int, source: Source) -> None:
        if self._sources.full(link):
            link.give_up(RemoteProtocolError("it opened more sources than a request can ask for"))
            return
        unsupported = unconfirmed(self.request, self.facts.exclude, source)
        if unsupported:
            link.give_up(AgentUnavailable(unsupported, "upgrade the agent"))
            return
        if self._machine.step(Step.OPENED):
            at_most = self._timer.getTime() - self._reactor.seconds()
            self._timer.reset(min(self.facts.duration + self._sink.grace, at_most))
        self._awaited.discard(link)
        described = dataclasses.replace(
            source,
            instance=link.target.name,
            agent_address=link.target.host,
            clock_offset_us=link.clock_offset_us,
            clock_error_us=link.clock_error_us,
            awaited=len(self._awaited),
        )
        opened = self._sources.open(link, number, described)
        self._sink.source(opened.number, described)
        if self.watcher is not None:
            self.watcher.opened(link.target)
        if self._paused:
            link.pause()

    def _packets(self, opened: OpenSource, records: Bytes) -> None:
        try:
            checked = check(records, SNAPLEN_MAX)
        except RecordError as error:
            opened.link.give_up(error)
            return
        self._sources.received(opened, checked.packets, len(records))
        if not self._sink.packets(opened.number, records):
            self._sources.lost(opened, checked.packets)
        most = self.facts.max_bytes
        if self._sources.bytes >= most and self._machine.state is State.RUNNING:
            if self.request.max_bytes is None or self.request.max_bytes > most:
                self.say(NoticeType.LIMIT_REACHED, f"the api ends captures after {most} bytes")
            self.stop(EndReason.BYTES, f"the limit of {most} bytes is reached")

    def _gone(self, link: AgentLink) -> None:
        if link in self._links:
            self._links.remove(link)
        self._awaited.discard(link)
        if self._machine.state is State.STARTING:
            self._gathering.left(link)
        for opened in self._sources.end(link):
            self._sink.stats(opened.number, opened.stats)
        if self.watcher is not None:
            self.watcher.gone(link.target)
        self._finish_if_over()

    # --- the end -----------------------------------------------------------

    def _finish_if_over(self) -> None:
        if self._links or self._machine.state is State.ENDED:
            return
        if self._machine.state is State.RUNNING and self.watcher is not None and self.watcher.watching:
            return
        if not self._sources and self._machine.state is not State.STOPPING:
            error = worst_error(self._errors)
            self._over("failed", str(error))
            self._sink.error(error)
            return
        if self._machine.state is not State.STOPPING:
            self._reason, self._message = EndReason.SOURCES_GONE, "no target is left"
        counters = tuple(opened.counters() for opened in self._sources)
        self._over(self._reason.value, self._message)
        self._sink.end(End(self._reason, self._message, counters))

    def _over(self, reason: str, message: str) -> None:
        self._machine.step(Step.OVER)
        cancel(self._timer)
        self._gathering.stop()
        self._stop_watch.stop()
        if self._pinger.running:
            self._pinger.stop()
        self._metrics.captures_active.dec()
        self._metrics.captures_ended.labels(reason).inc()
        self._sources.close()
        self._trail.note("capture_ended", **self.facts.ended(reason, message, self._sources))
        self.finished.callback(None)

    def _ping(self) -> None:
        for link in self._links:
            link.ping()

    # --- IPushProducer: the sink is the consumer ----------------------------

    @property
    def paused(self) -> bool:
        """Whether the sink has paused this capture."""
        return self._paused

    def pauseProducing(self) -> None:
        """Pause all agents, because the client is slow."""
        if not self._paused:
            self._paused = True
            for link in self._links:
                link.pause()

    def resumeProducing(self) -> None:
        """Resume all agents, because the client has read enough."""
        if self._paused:
            self._paused = False
            for link in self._links:
                link.resume()

    def stopProducing(self) -> None:
        """Do nothing: the client's protocol calls `abandon` when its transport is gone."""
