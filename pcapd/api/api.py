"""The api as a service: it listens, admits captures and drains."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.api import audit
from pcapd.api.bosh import BoshResolver
from pcapd.api.capture import Agents, Capture
from pcapd.api.clientfiles import ClientFilesResource
from pcapd.api.cloudfoundry import CloudFoundryResolver
from pcapd.api.download import DownloadResource
from pcapd.api.following import Following
from pcapd.api.metrics import Metrics
from pcapd.api.policy import permitted, still_permitted
from pcapd.api.resolvers import Resolved, Resolver
from pcapd.api.static import StaticResolver
from pcapd.api.stream import StreamResource
from pcapd.api.web import ApiSite, ClientInfo, HealthResource, HttpConnection, NotFoundResource
from pcapd.config.schema import ApiConfig
from pcapd.errors import (
    BadRequest,
    CaptureFailed,
    Draining,
    LimitReached,
    RequestError,
    TargetNotFound,
    Unauthenticated,
)
from pcapd.net.clock import now_us
from pcapd.net.daemon import Daemon, effective_capabilities
from pcapd.net.ports import BoundedPort, TLSPort
from pcapd.net.tls import ClientContext, ServerContext
from pcapd.wire import EndReason, Hello, Request

__all__ = ["Api"]

#: Seconds that a draining api waits for its clients to read the end, however long its captures took.
_LINGER = 3.0


class Api(Daemon):
    """Serves captures over HTTP and WebSocket.

    Args:
        config: What `pcapd.config` read.
        reactor: Where it runs.
        reread: Reads the configuration again, for its limits; None keeps them.
    """

    log = Logger()
    role = "api"

    def __init__(
        self, config: ApiConfig, reactor: Any, reread: Callable[[], ApiConfig] | None = None
    ) -> None:
        super().__init__(reactor)
        self._reread = reread
        self.config = config
        self.metrics = Metrics()
        self._client_context = ClientContext(config.agents.tls)
        self._server_context = ServerContext(config.listen.tls, b"http/1.1") if config.listen.tls else None
        self._agents = Agents(reactor, config.id, config.agents, self._client_context)
        self._resolvers: list[Resolver] = []
        if config.cloud_foundry is not None:
            port = config.agents.port
            self._resolvers.append(CloudFoundryResolver(config.cloud_foundry, port, reactor))
        if config.bosh is not None:
            self._resolvers.append(BoshResolver(config.bosh, reactor))
        if config.static is not None:
            self._resolvers.append(StaticResolver(config.static))
        self._captures: set[Capture] = set()
        self._streams: set[Any] = set()
        self._site = self._make_site()
        self._draining = False

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        if effective_capabilities():
            self.log.warn("the api has privileges, and needs none: start it as another user than root")
        site = self._site
        listen = self.config.listen
        port: BoundedPort
        if self._server_context is None:
            port = BoundedPort(listen.port, site, interface=listen.host, reactor=self.reactor)
        else:
            port = TLSPort(listen.port, site, listen.host, self.reactor, self._server_context)
        self.listen(port)
        self.log.info(
            "api {version} listens on {host}:{port}",
            version=__version__,
            host=listen.host,
            port=port.getHost().port,
        )
        for resolver in self._resolvers:
            resolver.start()
        if self.config.metrics is not None:
            metrics = Site(self.metrics.resource(), reactor=self.reactor)
            metrics.noisy = False
            self.listen(
                BoundedPort(
                    self.config.metrics.port,
                    metrics,
                    interface=self.config.metrics.host,
                    reactor=self.reactor,
                )
            )

    def prepare(self) -> Callable[[], None]:
        """Read renewed certificates, and other limits and policies for captures to come."""
        config = self.config
        if self._reread is not None:
            new = self._reread()
            config = replace(config, limits=new.limits, policy=new.policy, drain_timeout=new.drain_timeout)
        contexts = [self._client_context, self._server_context]
        parts = [context for context in contexts if context is not None]
        uses = [part.prepare() for part in (*parts, *self._resolvers)]

        def use() -> None:
            self.config = config
            for use_part in uses:
                use_part()

        return use

    def drain(self) -> Deferred[Any]:
        """Refuse new captures, end the running ones, let the clients read the end."""
        self._draining = True
        for resolver in self._resolvers:
            resolver.stop()
        until = self.reactor.seconds() + self.config.drain_timeout
        captures = list(self._captures)
        ended = DeferredList([capture.finished for capture in captures], consumeErrors=True)
        for capture in captures:
            capture.stop(EndReason.DRAINING, "the api is shutting down")
        ended.addTimeout(self.config.drain_timeout, self.reactor, onTimeoutCancel=lambda *_: None)
        return ended.addCallback(lambda _: self._let_read(max(until, self.reactor.seconds() + _LINGER)))

    def _let_read(self, until: float) -> Any:
        # Those that come later are only told that we are shutting down.
        return self._linger(self._site.connections.copy(), until)

    def _linger(self, readers: set[HttpConnection], until: float) -> Any:
        readers &= self._site.connections
        for connection in readers:
            connection.hang_up()
        if not (self._streams or readers) or self.reactor.seconds() >= until:
            return None
        return deferLater(self.reactor, 0.05, self._linger, readers, until)

    def _make_site(self) -> ApiSite:
        root = NotFoundResource()
        root.putChild(b"health", HealthResource(self.health))
        root.putChild(b"capture", DownloadResource(self))
        version_1 = NotFoundResource()
        version_1.putChild(b"stream", StreamResource(self))
        root.putChild(b"v1", version_1)
        if self.config.cli is not None:
            root.putChild(b"cli", ClientFilesResource(self.config.cli.directory))
        return ApiSite(root, self.reactor)

    # --- Front -------------------------------------------------------------

    def accepting(self) -> None:
        """Raises `Draining` when no new capture is taken."""
        if self._draining:
            raise Draining("the api is shutting down", "try again in a moment")

    def hello(self) -> Hello:
        """Our greeting."""
        return Hello(COMPATIBILITY_LEVEL, self.role, self.config.id, __version__, now_us())

    def health(self) -> dict[str, Any]:
        """The body of ``GET /health``."""
        resolvers = {}
        for resolver in self._resolvers:
            healthy, message = resolver.health()
            resolvers[resolver.name] = {"healthy": healthy, "message": message}
        healthy = not self._draining and all(state["healthy"] for state in resolvers.values())
        message = "shutting down" if self._draining else "ready" if healthy else "a resolver is not ready"
        return {
            "healthy": healthy,
            "compatibility_level": COMPATIBILITY_LEVEL,
            "version": __version__,
            "message": message,
            "resolvers": resolvers,
        }

    def begin(self, request: Request, token: str | None, client: ClientInfo, sink: Any) -> Deferred[Capture]:
        """Authenticate, resolve, count in: fires with a `Capture` to be started."""
        try:
            self.accepting()
            if not token:
                raise Unauthenticated("no token was given", "send one: Authorization: bearer TOKEN")
            resolver = self._resolver(request)
        except RequestError as error:
            return fail(error)
        admitted = resolver.resolve(request, token).addCallback(self._admit, request, client, sink)
        if request.follow:
            admitted.addCallback(self._follow, lambda: resolver.survey(request, token))
        return admitted

    def refused(self, failure: Failure, client: ClientInfo) -> RequestError:
        """Account for a request that came to nothing, and say why."""
        error = failure.value
        if not isinstance(error, RequestError):
            self.log.failure("a request failed", failure, request_id=client.request_id)
            error = CaptureFailed("the api failed; its log says more")
        self.metrics.captures_refused.labels(error.code).inc()
        audit.record(
            "capture_refused",
            request_id=client.request_id,
            client=client.peer,
            code=error.code,
            reason=error.message,
        )
        return error

    def joined(self, sink: Any) -> None:
        """A WebSocket is open."""
        self._streams.add(sink)

    def left(self, sink: Any) -> None:
        """It is gone."""
        self._streams.discard(sink)

    def _resolver(self, request: Request) -> Resolver:
        if request.follow and request.app is None:
            raise BadRequest("only an app can be followed")
        name, words = ("static", "named hosts")
        if request.app is not None:
            name, words = ("cloud_foundry", "Cloud Foundry apps")
        elif request.deployment is not None:
            name, words = ("bosh", "BOSH deployments")
        for resolver in self._resolvers:
            if resolver.name == name:
                return resolver
        raise TargetNotFound(f"this api captures no {words}", f"its operator must configure {name}")

    def _admit(self, resolved: Resolved, request: Request, client: ClientInfo, sink: Any) -> Capture:
        self.accepting()  # it may have changed while the resolver worked
        limits = self.config.limits
        request, resolved = permitted(self.config.policy, request, resolved)
        if len(resolved.targets) != len({target.name for target in resolved.targets}):
            raise BadRequest("a target is named twice")
        if len(resolved.targets) > limits.max_targets:
            raise LimitReached(f"more than {limits.max_targets} targets", "name fewer")
        if len(self._captures) >= limits.concurrent_captures:
            raise LimitReached(f"{limits.concurrent_captures} captures run already", "try again later")
        mine = sum(capture.user == resolved.user for capture in self._captures)
        if mine >= limits.per_user:
            raise LimitReached(f"you already run {mine} captures", "stop one of them")
        capture = Capture(
            self._agents,
            self.metrics,
            limits,
            request,
            resolved,
            sink,
            exclude_filters=self.config.policy.exclude,
            id=str(uuid.uuid4()),
            request_id=client.request_id,
            client=client.stream,
        )
        self._captures.add(capture)
        capture.finished.addCallback(lambda _: self._captures.discard(capture))
        return capture

    def _follow(self, capture: Capture, survey: Callable[[], Deferred[Resolved]]) -> Capture:
        def again() -> Deferred[Resolved]:
            return survey().addCallback(lambda resolved: still_permitted(capture.request, resolved))

        following = Following(self.reactor, again, capture)
        capture.watcher = following
        capture.finished.addCallback(lambda _: following.stop())
        return capture
