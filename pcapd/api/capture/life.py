"""One user's capture over many agents.

Goals: one failing, slow or silent agent never stops the others; nothing is
lost without being counted; nothing is queued here.  Frames are checked (their
record lengths walked in C) and passed on under a new source id, unopened.

Many agents (`limits.GATHER_TARGETS`) start together, when all are connected or
have failed: else the first would capture for seconds beside the TLS handshakes
of the last, and their packets could not be put in order.

Pressure: when the sink pauses us, every agent's transport is paused; when an
agent's data arrives while it is paused, that is at most one read.  So what
this capture can hold is a read per agent and the client's send buffer.

The end, whoever wants it: STOP to all agents, which drain and END; an agent that
does not move (`limits.STOP_STALL_TIMEOUT`) or takes too long (`limits.DRAIN_TIMEOUT`)
is given up, alone, so that a stop takes bounded time.  Then the sink gets END, or
ERROR when nothing ever started.
"""

from __future__ import annotations

import dataclasses
import hashlib
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from pcapd.api.capture.agentlink import AgentLink
from pcapd.api.capture.audit import Trail, wanted
from pcapd.api.metrics import Metrics
from pcapd.api.policy import unconfirmed
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.config.schema import AgentsConfig, ApiLimits
from pcapd.errors import (
    AgentUnavailable,
    AuditUnavailable,
    CaptureFailed,
    RecordError,
    RemoteProtocolError,
    RequestError,
)
from pcapd.limits import (
    AGENT_PING_INTERVAL,
    DRAIN_TIMEOUT,
    GATHER_PATIENCE,
    GATHER_TARGETS,
    GATHER_TIME,
    INTERFACES_MAX,
    SNAPLEN_MAX,
    SOURCES_MAX,
    STOP_STALL_TIMEOUT,
    STOP_WATCH_INTERVAL,
)
from pcapd.net.tls import ClientContext, check_server_name
from pcapd.net.transport import connect_tls, outgoing_socket
from pcapd.records import check
from pcapd.wire import (
    ApiTraffic,
    CaptureStart,
    Counters,
    End,
    EndReason,
    Event,
    Notice,
    NoticeType,
    Packets,
    Request,
    Source,
    Stats,
)
from pcapd.wire.frames import Bytes

__all__ = ["Agents", "Capture", "Sink", "Watcher"]

_ORIGIN = "api"


class Sink(Protocol):
    """Where a capture goes; it may call `Capture.pauseProducing` at any time.

    Attributes:
        grace: Seconds in which its client stops by itself when the duration is over.
    """

    grace: float

    def source(self, number: int, source: Source) -> None:
        """A source is open."""

    def packets(self, number: int, records: Bytes) -> bool:
        """Checked records of one source; returns whether they go on their way to the client."""

    def stats(self, number: int, stats: Stats) -> None:
        """Counters and watermark of one source."""

    def notice(self, notice: Notice) -> None:
        """Something the user should know."""

    def end(self, end: End) -> None:
        """It is over; nothing follows."""

    def error(self, error: RequestError) -> None:
        """Nothing ever started; nothing follows."""


class Watcher(Protocol):
    """Who adds targets while a capture runs (`pcapd.api.capture.following`)."""

    @property
    def watching(self) -> bool:
        """Whether more targets may come: the capture is not over without any."""

    def opened(self, target: Target) -> None:
        """A source of this target is open."""

    def gone(self, target: Target) -> None:
        """It is not captured any more, or could not be."""


@dataclasses.dataclass(frozen=True)
class Agents:
    """How agents are reached, and what they must not capture.

    Attributes:
        traffic: The api's own connections, as they are now.
    """

    reactor: Any
    api_id: str
    config: AgentsConfig
    context: ClientContext
    traffic: Callable[[], ApiTraffic]


@dataclasses.dataclass
class _OpenSource:
    number: int
    link: AgentLink
    source: Source
    stats: Stats
    packets: int = 0  # that came here
    dropped: int = 0  # of these, not passed on


class _State(Enum):
    NEW = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    ENDED = auto()


@implementer(IPushProducer)
class Capture:
    """See the module.

    Args:
        agents: How agents are reached.
        metrics: Where to count.
        limits: The operator's; the request can only ask for less.
        request: What is wanted, and allowed.
        resolved: Who wants it, and the targets.
        sink: Where it goes.
        exclude_filters: What of these passes is not captured.
        id: The capture's id.
        request_id: What ties the logs together.
        trail: Where it is recorded.
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
        self._exclude_filters = exclude_filters
        self._notices = resolved.notices
        self._sink = sink
        self.id = id
        self.request_id = request_id
        self.user = resolved.user
        self.identity = resolved.identity
        self._origin = resolved.origin
        # Agents tell users apart by it, and learn nothing else of them.
        identity = f"{agents.api_id} {resolved.identity}"
        self._user_id = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self.targets = resolved.targets
        self._trail = trail
        self._asked_from = asked_from
        self._duration = min(request.duration or limits.max_duration, limits.max_duration)
        self._max_bytes = min(request.max_bytes or limits.max_bytes, limits.max_bytes)
        self._state = _State.NEW
        self._reason = EndReason.STOPPED
        self._message = ""
        self._links: list[AgentLink] = []
        self._awaited: set[AgentLink] = set()  # of the first ones, neither started nor failed
        self._gathering = len(self.targets) >= GATHER_TARGETS
        self._gathered: list[AgentLink] = []  # connected, and not yet asked to capture
        self._gather_until = 0.0
        self._gather_timer: Any = None
        self._sources: dict[tuple[AgentLink, int], _OpenSource] = {}
        self._opened_by: Counter[AgentLink] = Counter()
        self._errors: list[RequestError] = []
        self._bytes = 0
        self._paused = False
        self._stop_time_left = DRAIN_TIMEOUT
        self._timer: Any = None
        self._watch = LoopingCall(self._watch_links)
        self._watch.clock = self._reactor
        self._pinger = LoopingCall(self._ping)
        self._pinger.clock = self._reactor
        #: Who is told of targets that come and go, and may add some.
        self.watcher: Watcher | None = None
        #: Fires when everything is over.
        self.finished: Deferred[None] = Deferred()

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Dial every agent at once.  The audit record comes first.

        Raises:
            AuditUnavailable: There can be no record, so it does not start.
        """
        self._trail.record("capture_started", **self._about(), **self._facts())
        self._state = _State.STARTING
        self._metrics.captures_started.inc()
        self._metrics.captures_active.inc()
        self._timer = self._reactor.callLater(self._limits.max_duration, self._time_is_up)
        self._pinger.start(AGENT_PING_INTERVAL, now=False)
        # All sockets first: each notice says how many instances are still awaited.
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
            self._dial(link, sock)
        self._finish_if_over()

    def add_target(self, target: Target) -> bool:
        """Capture one more target; tells whether it is tried at all."""
        if self._state is not _State.RUNNING:
            return False
        if len(self._links) >= self._limits.max_targets or len(self._sources) + INTERFACES_MAX > SOURCES_MAX:
            self.say(NoticeType.LIMIT_REACHED, "is not captured: there are too many already", target.name)
            return False
        try:
            self._trail.record("capture_extended", **self._about(), targets=[_describe(target)])
        except AuditUnavailable as error:
            self.say(NoticeType.START_CAPTURE_FAILED, error.message, target.name)
            return False
        try:
            link, sock = self._new_link(target)
        except OSError as error:
            self._no_socket(target, error)
            return False
        self._dial(link, sock)
        return True

    def settle(self) -> None:
        """No more targets will be added."""
        self._finish_if_over()

    def say(self, kind: NoticeType, message: str, origin: str = _ORIGIN) -> None:
        """Tell the user something."""
        self._notice(Notice(kind, message, origin))

    def _notice(self, notice: Notice) -> None:
        self._sink.notice(dataclasses.replace(notice, awaited=len(self._awaited)))

    def stop(self, reason: EndReason, message: str = "", within: float = DRAIN_TIMEOUT) -> None:
        """End it in good order.

        Args:
            within: Seconds that the agents have for it, also when it is ending already.
        """
        self._stop_time_left = min(self._stop_time_left, within)
        if self._state not in (_State.STARTING, _State.RUNNING):
            return
        self._state = _State.STOPPING
        self._reason, self._message = reason, message
        self._drop_gather_timer()
        self._watch.start(STOP_WATCH_INTERVAL, now=False)
        for link in list(self._links):
            link.stop()
        self._finish_if_over()

    def abandon(self, why: str) -> None:
        """The client is gone: end it at once.

        Args:
            why: For the log.
        """
        if self._state is _State.ENDED:
            return
        if self._state is _State.NEW:
            self._state = _State.ENDED
            self.finished.callback(None)
            return
        for link in self._links:
            link.abandon()
        self._links.clear()
        self._over("abandoned", why)

    def _new_link(self, target: Target) -> tuple[AgentLink, socket.socket]:
        sock = outgoing_socket(target.host)
        link = AgentLink(self._reactor, target, self._agents.api_id, self)
        self._links.append(link)
        return link, sock

    def _no_socket(self, target: Target, error: OSError) -> None:
        """The api has no descriptor or port left."""
        failure = AgentUnavailable(f"the api has no socket for its agent: {error.strerror}")
        self._errors.append(failure)
        self._metrics.agents_failed.labels(failure.code).inc()
        self.say(NoticeType.START_CAPTURE_FAILED, failure.message, target.name)

    def _dial(self, link: AgentLink, sock: socket.socket) -> None:
        agents = self._agents
        connect_tls(
            self._reactor,
            sock,
            (link.target.host, link.target.port),
            link,
            agents.context(),
            lambda connection: check_server_name(connection, agents.config.tls.server_name),
            agents.config.connect_timeout,
        )

    def _time_is_up(self) -> None:
        if self.request.duration is None or self.request.duration > self._duration:
            self.say(NoticeType.LIMIT_REACHED, f"the api ends captures after {self._duration:g} s")
        self.stop(EndReason.DURATION, f"{self._duration:g} s are over")

    # --- what agents say (LinkOwner) ---------------------------------------

    def link_ready(self, link: AgentLink) -> None:
        """It said HELLO."""
        if not self._gathering:
            link.ask(self._start(link))
            return
        now = self._reactor.seconds()
        if not self._gathered:
            self._gather_until = now + GATHER_TIME
        self._gathered.append(link)
        self._drop_gather_timer()
        patience = max(0.0, min(GATHER_PATIENCE, self._gather_until - now))
        self._gather_timer = self._reactor.callLater(patience, self._ask_gathered)
        self._ask_if_all_are_here()

    def _ask_if_all_are_here(self) -> None:
        if self._gathered and len(self._gathered) == len(self._links):
            self._ask_gathered()

    def _ask_gathered(self) -> None:
        """Let them start; whoever comes later starts alone."""
        self._drop_gather_timer()
        self._gathering = False
        gathered, self._gathered = self._gathered, []
        for link in gathered:
            link.ask(self._start(link))

    def _drop_gather_timer(self) -> None:
        if self._gather_timer is not None and self._gather_timer.active():
            self._gather_timer.cancel()

    def _start(self, link: AgentLink) -> CaptureStart:
        request = self.request
        return CaptureStart(
            capture=self.id,
            request_id=self.request_id,
            instance=link.target.name,
            interfaces=request.interfaces,
            filter=request.filter,
            snaplen=request.snaplen,
            namespace=link.target.namespace,
            container=link.target.container,
            api=self._agents.traffic(),
            user=self._user_id,
            headers_only=request.headers_only,
            exclude_filters=self._exclude_filters,
        )

    def link_event(self, link: AgentLink, event: Event) -> None:
        """SOURCE, PACKETS, STATS or NOTICE."""
        message = event.message
        if isinstance(message, Packets):
            self._packets(self._sources[link, event.source], message.records)
        elif isinstance(message, Stats):
            self._stats(self._sources[link, event.source], message)
        elif isinstance(message, Source):
            self._opened(link, event.source, message)
        elif isinstance(message, Notice):
            self._notice(dataclasses.replace(message, origin=link.target.name))

    def link_ended(self, link: AgentLink, end: End) -> None:
        """It delivered everything."""
        if self._state is not _State.STOPPING and end.reason is EndReason.DRAINING:
            self.say(NoticeType.INSTANCE_UNAVAILABLE, "its agent is shutting down", link.target.name)
        self._gone(link)

    def link_failed(self, link: AgentLink, error: RequestError) -> None:
        """It refused, or was lost."""
        self._metrics.agents_failed.labels(error.code).inc()
        self._errors.append(error)
        self._awaited.discard(link)
        started = any(source.link is link for source in self._sources.values())
        if started or self._state is not _State.STOPPING:
            self.log.warn(
                "{target} failed: {reason}", target=link.target.name, reason=str(error), **self._about()
            )
        if started:
            self.say(NoticeType.CONNECTION_ERROR, str(error), link.target.name)
        elif self._state is not _State.STARTING or len(self._links) > 1:
            self.say(NoticeType.START_CAPTURE_FAILED, str(error), link.target.name)
        self._gone(link)

    def _opened(self, link: AgentLink, number: int, source: Source) -> None:
        if self._opened_by[link] >= INTERFACES_MAX or len(self._sources) >= SOURCES_MAX:
            link.give_up(RemoteProtocolError("it opens more sources than a request can ask for"))
            return
        disobeyed = unconfirmed(self.request, self._exclude_filters, source)
        if disobeyed:
            link.give_up(AgentUnavailable(disobeyed, "upgrade it"))
            return
        self._opened_by[link] += 1
        if self._state is _State.STARTING:
            self._state = _State.RUNNING
            at_most = self._timer.getTime() - self._reactor.seconds()
            self._timer.reset(min(self._duration + self._sink.grace, at_most))
        self._awaited.discard(link)
        described = dataclasses.replace(
            source,
            instance=link.target.name,
            agent_address=link.target.host,
            clock_offset_us=link.clock_offset_us,
            awaited=len(self._awaited),
        )
        opened = _OpenSource(len(self._sources) + 1, link, described, Stats(0, 0, 0, 0, 0))
        self._sources[link, number] = opened
        self._sink.source(opened.number, described)
        if self.watcher is not None:
            self.watcher.opened(link.target)
        if self._paused:
            link.pause()

    def _packets(self, opened: _OpenSource, records: Bytes) -> None:
        try:
            checked = check(records, SNAPLEN_MAX)
        except RecordError as error:
            opened.link.give_up(error)
            return
        opened.packets += checked.packets
        self._metrics.packets.inc(checked.packets)
        self._metrics.bytes.inc(len(records))
        self._bytes += len(records)
        if not self._sink.packets(opened.number, records):
            opened.dropped += checked.packets
            self._metrics.dropped.labels("api").inc(checked.packets)
        if self._bytes >= self._max_bytes and self._state is _State.RUNNING:
            if self.request.max_bytes is None or self.request.max_bytes > self._max_bytes:
                self.say(NoticeType.LIMIT_REACHED, f"the api ends captures after {self._max_bytes} bytes")
            self.stop(EndReason.BYTES, f"{self._max_bytes} bytes are reached")

    def _stats(self, opened: _OpenSource, stats: Stats) -> None:
        before = opened.stats
        for place, now, then in (
            ("interface", stats.dropped_interface, before.dropped_interface),
            ("kernel", stats.dropped_kernel, before.dropped_kernel),
            ("agent", stats.dropped_agent, before.dropped_agent),
        ):
            self._metrics.dropped.labels(place).inc(max(0, now - then))
        # What is passed on before this and does not arrive there, we have lost.
        opened.stats = dataclasses.replace(stats, forwarded=opened.packets)
        self._sink.stats(opened.number, opened.stats)

    def _gone(self, link: AgentLink) -> None:
        if link in self._links:
            self._links.remove(link)
        self._awaited.discard(link)
        if self._gathering and self._state is _State.STARTING:
            if link in self._gathered:
                self._gathered.remove(link)
            self._ask_if_all_are_here()
        for opened in self._sources.values():
            if opened.link is link and not opened.stats.final:
                # So that an ordered merge does not wait for it.
                opened.stats = dataclasses.replace(
                    opened.stats.seen(opened.packets), final=True, exact=False, forwarded=opened.packets
                )
                self._sink.stats(opened.number, opened.stats)
        if self.watcher is not None:
            self.watcher.gone(link.target)
        self._finish_if_over()

    # --- the end -----------------------------------------------------------

    def _finish_if_over(self) -> None:
        if self._links or self._state is _State.ENDED:
            return
        if self._state is _State.RUNNING and self.watcher is not None and self.watcher.watching:
            return
        if not self._sources and self._state is not _State.STOPPING:
            error = self._worst_error()
            self._over("failed", str(error))
            self._sink.error(error)
            return
        if self._state is not _State.STOPPING:
            self._reason, self._message = EndReason.SOURCES_GONE, "no target is left"
        counters = tuple(
            Counters(
                opened.number,
                opened.stats.received,
                opened.stats.dropped_kernel,
                opened.stats.dropped_interface,
                opened.stats.delivered,
                opened.stats.dropped_agent,
                opened.packets,
            )
            for opened in self._sources.values()
        )
        self._over(self._reason.value, self._message)
        self._sink.end(End(self._reason, self._message, counters))

    def _over(self, reason: str, message: str) -> None:
        self._state = _State.ENDED
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._drop_gather_timer()
        for call in (self._watch, self._pinger):
            if call.running:
                call.stop()
        self._metrics.captures_active.dec()
        self._metrics.captures_ended.labels(reason).inc()
        for opened in self._sources.values():
            opened.stats = opened.stats.seen(opened.packets)
        self._trail.note(
            "capture_ended",
            **self._about(),
            reason=reason,
            detail=message,
            packets=sum(opened.packets for opened in self._sources.values()),
            bytes=self._bytes,
            sources=[
                {
                    "source": f"{opened.source.instance}:{opened.source.interface}",
                    "received": opened.stats.received,
                    "dropped_kernel": opened.stats.dropped_kernel,
                    "dropped_interface": opened.stats.dropped_interface,
                    "dropped_agent": opened.stats.dropped_agent,
                    "dropped_api": opened.dropped,
                    "delivered": opened.stats.delivered,
                    "forwarded": opened.packets,
                    "exact": opened.stats.exact and opened.stats.final,
                }
                for opened in self._sources.values()
            ],
        )
        self.finished.callback(None)

    def _worst_error(self) -> RequestError:
        """What to tell when every target failed: a request that is wrong is wrong everywhere."""
        kinds = {type(error) for error in self._errors}
        if len(kinds) == 1:
            first = self._errors[0]
            if len(self._errors) == 1 or first.status < 500:
                return first
        words = "; ".join(dict.fromkeys(error.message for error in self._errors))
        return CaptureFailed(f"no target could be captured: {words}")

    def _watch_links(self) -> None:
        """While stopping, time counts as long as it is not the client that keeps us."""
        if not self._paused:
            self._stop_time_left -= STOP_WATCH_INTERVAL
            # A process that was suspended reads first what came meanwhile, and judges then.
            self._reactor.callLater(0, self._check_links)

    def _check_links(self) -> None:
        """Give up each agent that does not move, or takes too long."""
        if self._paused:
            return
        for link in list(self._links):
            if self._stop_time_left <= 0:
                link.give_up(AgentUnavailable("its capture did not end in time after the stop"))
            elif link.ran - link.progress.moved_at > STOP_STALL_TIMEOUT:
                words = f"its capture stood still for {STOP_STALL_TIMEOUT:g} s after the stop"
                link.give_up(AgentUnavailable(words))

    def _ping(self) -> None:
        for link in self._links:
            link.ping()

    # --- IPushProducer: the sink is the consumer ----------------------------

    @property
    def paused(self) -> bool:
        """Whether the sink has paused us."""
        return self._paused

    def pauseProducing(self) -> None:
        """The client is slow."""
        if not self._paused:
            self._paused = True
            for link in self._links:
                link.pause()

    def resumeProducing(self) -> None:
        """It caught up."""
        if self._paused:
            self._paused = False
            for link in self._links:
                link.resume()

    def stopProducing(self) -> None:
        """The client's transport is gone; its protocol calls `abandon`."""

    # --- words -------------------------------------------------------------

    def _about(self) -> dict[str, Any]:
        about = {"capture": self.id, "request_id": self.request_id, "user": self.user}
        return {**about, "origin": self._origin} if self._origin else about

    def _facts(self) -> dict[str, Any]:
        """What is in force."""
        return {
            **wanted(self.request),
            "targets": [_describe(target) for target in self.targets],
            "exclude": list(self._exclude_filters),
            "duration": self._duration,
            "max_bytes": self._max_bytes,
            **self._asked_from,
        }


def _describe(target: Target) -> str:
    words = f"{target.name} at {target.host}:{target.port}"
    if target.namespace:
        words += f", namespace {target.namespace}"
    if target.container:
        words += f", container {target.container.handle or target.container.address or 'unknown'}"
    return words
