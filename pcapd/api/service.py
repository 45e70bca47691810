"""The api as a service: it listens, admits captures and drains."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.api.admission import Admission
from pcapd.api.capture.agentlink import Agents, own_traffic
from pcapd.api.capture.audit import Trail
from pcapd.api.capture.life import Capture
from pcapd.api.capture.overseeing import oversee
from pcapd.api.health import health
from pcapd.api.http.captures import AgentsResource, CapturesResource
from pcapd.api.http.clientfiles import ClientFilesResource
from pcapd.api.http.download import DownloadResource
from pcapd.api.http.recordings import HooksResource, RecordingsResource
from pcapd.api.http.stream import StreamResource
from pcapd.api.http.web import ClientInfo, HealthResource, TargetsResource
from pcapd.api.known import known_agents
from pcapd.api.metrics import Metrics
from pcapd.api.operators import Operators
from pcapd.api.policy import permitted
from pcapd.api.recordings.optional import recordings_of
from pcapd.api.resolvers.base import Resolved, Resolver, asked_by
from pcapd.api.resolvers.kinds import configured, resolver_for
from pcapd.api.resolvers.static import names_for
from pcapd.config.schema import ApiConfig
from pcapd.errors import (
    BadRequest,
    CaptureFailed,
    ClientLeft,
    Draining,
    LimitReached,
    RequestError,
    Unauthenticated,
)
from pcapd.limits import BODY_MAX, DRAIN_LINGER, DRAIN_LOOK_INTERVAL
from pcapd.net.clock import now_us
from pcapd.net.daemon import Daemon, effective_capabilities
from pcapd.net.httpserver import HttpConnection, HttpSite
from pcapd.net.logs import audit_output
from pcapd.net.pages import NotFoundResource
from pcapd.net.ports import BoundedPort, TLSPort
from pcapd.net.reactor import Reactor
from pcapd.net.tally import Tally
from pcapd.net.tls import ClientContext, ServerContext
from pcapd.wire import ApiTraffic, EndReason, Hello, Limits, Request

__all__ = ["Api"]


class Api(Daemon):
    """Serves captures over HTTP and WebSocket.

    Args:
        config: The configuration of the api.
        reactor: The reactor.
        reread: Reads the configuration again, for its limits; None keeps the limits.
    """

    log = Logger()
    role = "api"

    def __init__(
        self, config: ApiConfig, reactor: Reactor, reread: Callable[[], ApiConfig] | None = None
    ) -> None:
        super().__init__(reactor)
        self._reread = reread
        self.config = config
        self.metrics = Metrics()
        #: Where audit records go, for the one who starts the log; None for the log.
        self.audit = audit_output(config.audit)
        self._trail = Trail(reactor, self.audit, self.metrics.audit_failures)
        self._trail.on_trouble = self._cannot_record
        self._defects = Tally(reactor, self._log_defect)
        self._client_context = ClientContext(config.agents.tls)
        self._server_context = ServerContext(config.listen.tls, b"http/1.1") if config.listen.tls else None
        self._agents = Agents(reactor, config.id, config.agents, self._client_context, self._traffic)
        self._known = known_agents(config, reactor, self._client_context)
        self._listens_on = config.listen.port
        self._resolvers = configured(config, reactor)
        self._admission = Admission(config, reactor)
        self._captures = self._admission.captures
        self._operators = Operators(
            self._resolvers, self._admission, lambda: self.config.operators, self._trail
        )
        self._recordings, self._desk = recordings_of(
            config.recordings,
            reactor,
            self,
            self._operators,
            self._trail,
            self.metrics,
            self._admission.database,
            self._admission.holding,
        )
        self._streams: set[Any] = set()
        self._site = self._make_site()
        self._draining = False

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Listen, and start the resolvers and the audit log."""
        if effective_capabilities():
            self.log.warn("the api has privileges that it does not need: start it as a user other than root")
        site = self._site
        listen = self.config.listen
        port: BoundedPort
        if self._server_context is None:
            port = BoundedPort(listen.port, site, interface=listen.host, reactor=self.reactor)
        else:
            port = TLSPort(listen.port, site, listen.host, self.reactor, self._server_context)
        port.shared = self.config.worker is not None
        self.listen(port)
        self._listens_on = port.getHost().port
        self.log.info(
            "api {version} listens on {host}:{port}",
            version=__version__,
            host=listen.host,
            port=self._listens_on,
        )
        for resolver in self._resolvers:
            resolver.start()
        self._trail.start()
        self._admission.start()
        if self._recordings is not None:
            self._recordings.start()
        if self.config.probe.enabled:
            self._known.start()
        self._describe()
        self.serve_metrics(self.metrics, self.config.metrics)

    def _describe(self) -> None:
        metrics = self.metrics
        metrics.describe(self.role)
        metrics.certificate("agents.tls", self._client_context)
        if self._server_context is not None:
            metrics.certificate("listen.tls", self._server_context)
        metrics.resolvers(self._resolvers)
        metrics.limits(lambda: self.config.limits)
        metrics.state(lambda: not self._admission.troubled, lambda: self._admission.holders)
        if self.config.probe.enabled:
            metrics.known_agents(self._known.agents)

    def prepare(self) -> Callable[[], None]:
        """Read the certificates again, and the limits and policy for new captures."""
        config = self.config
        if self._reread is not None:
            new = self._reread()
            config = replace(
                config,
                limits=new.limits,
                policy=new.policy,
                operators=new.operators,
                drain_timeout=new.drain_timeout,
                trusted_proxies=new.trusted_proxies,
            )
        contexts = [self._client_context, self._server_context]
        parts = [context for context in contexts if context is not None]
        uses = [part.prepare() for part in (*parts, *self._resolvers)]

        def use() -> None:
            self.config = config
            for use_part in uses:
                use_part()

        return use

    def drain(self) -> Deferred[Any]:
        """Refuse new captures, end the running ones, and let the clients read their end."""
        self._draining = True
        for resolver in self._resolvers:
            resolver.stop()
        self._known.stop()
        self._trail.stop()
        self._defects.flush()
        until = self.reactor.seconds() + self.config.drain_timeout
        captures = list(self._captures)
        finished = [capture.finished for capture in captures]
        finished += self._recordings.drain() if self._recordings else []
        ended = DeferredList(finished, consumeErrors=True)
        for capture in captures:
            capture.stop(EndReason.DRAINING, "the api is shutting down", within=self.config.drain_timeout)
        ended.addTimeout(self.config.drain_timeout, self.reactor, onTimeoutCancel=lambda *_: None)
        ended.addCallback(lambda _: self._let_read(max(until, self.reactor.seconds() + DRAIN_LINGER)))
        return ended.addCallback(lambda _: self._drained())

    def _drained(self) -> None:
        self._trail.stop()  # writes the refusals since the first call
        if self._recordings:
            self._recordings.stop()
        self._admission.stop()

    def _let_read(self, until: float) -> Any:
        # Only connections that exist now: later ones only get the error that the api is shutting down.
        return self._linger(self._site.connections.copy(), until)

    def _linger(self, readers: set[HttpConnection], until: float) -> Any:
        readers &= self._site.connections
        for connection in readers:
            connection.hang_up()
        if not (self._streams or readers) or self.reactor.seconds() >= until:
            return None
        return deferLater(self.reactor, DRAIN_LOOK_INTERVAL, self._linger, readers, until)

    def _make_site(self) -> HttpSite:
        root = NotFoundResource()
        root.putChild(b"health", HealthResource(self.health))
        root.putChild(b"capture", DownloadResource(self))
        version_1 = NotFoundResource()
        version_1.putChild(b"stream", StreamResource(self))
        version_1.putChild(b"targets", TargetsResource(self, lambda token: names_for(token, self._resolvers)))
        operators = self._operators
        version_1.putChild(b"captures", CapturesResource(self, operators.list, operators.stop))
        if self._recordings is not None:
            version_1.putChild(b"recordings", RecordingsResource(self, self._desk))
            version_1.putChild(b"hooks", HooksResource(self, self._desk))
        if self.config.probe.enabled:
            agents = AgentsResource(self, lambda client: operators.agents(client, self._known))
            version_1.putChild(b"agents", agents)
        root.putChild(b"v1", version_1)
        if self.config.cli is not None:
            root.putChild(b"cli", ClientFilesResource(self.config.cli.directory))
        return HttpSite(root, self.reactor, 0 if self._recordings is None else BODY_MAX)

    # --- CaptureService ----------------------------------------------------

    def accepting(self) -> None:
        """Raise `Draining` when the api accepts no new captures."""
        if self._draining:
            raise Draining("the api is shutting down", "try again in a moment")

    def hello(self) -> Hello:
        """The api's greeting."""
        limits = Limits(self.config.limits.max_duration, self.config.limits.max_bytes)
        return Hello(COMPATIBILITY_LEVEL, self.role, self.config.id, __version__, now_us(), limits=limits)

    def health(self) -> dict[str, Any]:
        """The body of ``GET /health``."""
        return health(
            self._resolvers, draining=self._draining, recording=not self._trail.trouble, ready=self._ready()
        )

    def _ready(self) -> str:
        # What runs goes on, and whoever asks gets the reason, so the api stays in service.
        if self._admission.troubled:
            return "ready, but new captures are refused: the state that apis share is not available"
        partly = self._recordings is not None and self._recordings.troubled
        return "ready, but recordings cannot be stored" if partly else "ready"

    def client(self, request: Any) -> ClientInfo:
        """The client that sent an HTTP request."""
        return ClientInfo.of(request, self.config.trusted_proxies)

    def begin(self, request: Request, token: str | None, client: ClientInfo, sink: Any) -> Deferred[Capture]:
        """Authenticate the user, find the targets, and admit the capture; fires with a `Capture`.

        The caller starts the capture.  Cancel the Deferred when the client has disconnected.
        """
        if request.record is not None and not sink.unattended:
            if self._recordings is None:
                return fail(BadRequest("this api makes no recordings", "capture without --resumable"))
            beside: Deferred[Capture] = self._recordings.beside(request, token, client, sink)
            return beside
        try:
            self.accepting()
            if not token:
                raise Unauthenticated("no token was given", "send one: Authorization: bearer TOKEN")
            resolver = self.resolver(request)
        except RequestError as error:
            return fail(error)
        resolved = resolver.resolve(request, token, client.address)
        admitted = resolved.addErrback(_left).addCallback(
            lambda found: Deferred.fromCoroutine(self._admit(found, request, client, sink))
        )
        survey = lambda: resolver.survey(request, token, client.address)  # noqa: E731
        return admitted.addCallback(lambda capture: oversee(self.reactor, capture, resolver, survey))

    def refused(
        self, failure: Failure, client: ClientInfo, requested: Mapping[str, Any] | None = None
    ) -> RequestError:
        """Count and record a refused request; return the error for the client."""
        error = failure.value
        if failure.check(CancelledError):
            error = ClientLeft("the client left before the capture started")
        elif not isinstance(error, RequestError):
            self._defects.add(client.address, {"failure": failure, "request_id": client.request_id})
            error = CaptureFailed("the api failed; its log has the details")
        self.metrics.captures_refused.labels(error.code).inc()
        facts = {"request_id": client.request_id, **client.facts, "reason": error.message}
        if error.user is not None:
            facts["user"] = error.user
        self._trail.refused(client.address, error.code, {**facts, **(requested or {})})
        return error

    def _log_defect(self, count: int, facts: Mapping[str, Any]) -> None:
        self.log.failure("a request failed", facts["failure"], request_id=facts["request_id"], count=count)

    def _cannot_record(self, trouble: str) -> None:
        for capture in list(self._captures):
            capture.stop(EndReason.UNRECORDED, trouble)

    def released(self, capture: Capture) -> None:
        """Stop counting a capture, because its client has read all of it or is gone."""
        self._admission.release(capture)

    def joined(self, sink: Any) -> None:
        """Add an open WebSocket."""
        self._streams.add(sink)

    def left(self, sink: Any) -> None:
        """Remove a WebSocket that is gone."""
        self._streams.discard(sink)

    def _traffic(self) -> ApiTraffic:
        """The api's own connections, which agents must not capture."""
        return own_traffic(self.config, self._listens_on)

    def resolver(self, request: Request) -> Resolver:
        """The resolver of a request.

        Raises:
            BadRequest: No resolver is configured for it, or it cannot be followed.
        """
        if request.follow and request.app is None:
            raise BadRequest("only an app can be followed")
        return resolver_for(request, self._resolvers)

    async def _admit(self, resolved: Resolved, request: Request, client: ClientInfo, sink: Any) -> Capture:
        with asked_by(resolved.user):
            self.accepting()  # the api may have begun to drain while the resolver worked
            limits = self.config.limits
            request, resolved = permitted(self.config.policy, request, resolved)
            if len(resolved.targets) != len({target.name for target in resolved.targets}):
                raise BadRequest("a target is named twice")
            if len(resolved.targets) > limits.max_targets:
                raise LimitReached(f"more than {limits.max_targets} targets", "name fewer")
            id = str(uuid.uuid4())

            def make() -> Capture:
                self.accepting()  # likewise
                about = {"request_id": client.request_id, "asked_from": client.facts}
                return self._make(resolved, request, sink, id=id, **about)

            admitted = self._admission.admit(id, resolved.identity, limits, make, unattended=sink.unattended)
            return await admitted

    def _make(self, resolved: Resolved, request: Request, sink: Any, **about: Any) -> Capture:
        limits, recordings = self.config.limits, self.config.recordings
        if sink.unattended and recordings is not None:
            limits = replace(limits, max_duration=recordings.max_duration, max_bytes=recordings.max_bytes)
        capture = Capture(
            self._agents,
            self.metrics,
            limits,
            request,
            resolved,
            sink,
            exclude_filters=self.config.policy.exclude,
            trail=self._trail,
            **about,
        )
        self._captures.add(capture)
        return capture

    def resume(self, id: str, request: Request, resolved: Resolved, sink: Any) -> Capture:
        """Make a capture for a recording that was admitted before the api was restarted.

        Args:
            id: The recording's id.
        """
        self.accepting()
        capture = self._make(resolved, request, sink, id=str(uuid.uuid4()), request_id=id, asked_from={})
        return oversee(self.reactor, capture, self.resolver(request), None)


def _left(failure: Failure) -> Any:
    failure.trap(CancelledError)
    raise CaptureFailed("the client left before the capture started")
