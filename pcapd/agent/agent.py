"""The agent as a service: it listens, limits the number of captures, and drains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.agent.feedback import Feedback
from pcapd.agent.metrics import AgentMetrics
from pcapd.agent.session import AgentSession
from pcapd.agent.threads import Threads
from pcapd.capture import privileges
from pcapd.capture.compiling import FilterCompiler
from pcapd.capture.libpcap import libpcap_version
from pcapd.config.schema import AgentConfig
from pcapd.errors import LimitReached, TargetNotFound
from pcapd.limits import DRAIN_TIMEOUT
from pcapd.net.clock import now_us
from pcapd.net.daemon import Daemon, effective_capabilities
from pcapd.net.ports import TLSPort
from pcapd.net.reactor import Reactor
from pcapd.net.tally import Tally
from pcapd.net.tls import ServerContext, check_allowed
from pcapd.wire import EndReason, Hello

__all__ = ["Agent"]


class Agent(Daemon):
    """Serves captures of this machine's interfaces and named network namespaces.

    Args:
        config: The configuration, as read by `pcapd.config`.
        reactor: Twisted's reactor.
        reread: Function that reads the configuration again at a reload; None keeps the limits.
    """

    log = Logger()
    role = "agent"

    def __init__(
        self, config: AgentConfig, reactor: Reactor, reread: Callable[[], AgentConfig] | None = None
    ) -> None:
        super().__init__(reactor)
        self._reread = reread
        self.config = config
        self._context = ServerContext(config.listen.tls)
        self._sessions: set[AgentSession] = set()
        self._captures: set[AgentSession] = set()
        self._strangers = Tally(reactor, self._log_strangers)
        self._draining = False
        self.metrics = AgentMetrics()
        self.compiler = FilterCompiler()
        self.threads = Threads(reactor)
        self.feedback = Feedback(reactor, self._sessions)

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Listen, then drop the privileges that capturing does not need."""
        config = self.config
        factory = Factory.forProtocol(lambda: AgentSession(self))
        factory.noisy = False
        port = TLSPort(
            config.listen.port, factory, config.listen.host, self.reactor, self._context, self._check_peer
        )
        self.listen(port)
        self._describe()
        self.serve_metrics(self.metrics, config.metrics)
        libpcap = libpcap_version()
        if config.privileges == "prctl":
            privileges.load()
        if config.run_as is not None:
            privileges.become(config.run_as, self._needed())
        for name in privileges.missing(self._needed()):
            self.log.warn("without CAP_{name} captures will fail", name=name.upper())
        if effective_capabilities() & ~privileges.mask(self._needed()):
            if config.privileges == "prctl":
                self.log.warn("the agent has privileges that it does not need: run_as: USER drops them")
            else:
                self.log.warn("the agent has privileges that it does not need: start it as another user")
        self.log.info(
            "agent {version} listens on {host}:{port}, {libpcap}",
            version=__version__,
            host=config.listen.host,
            port=port.getHost().port,
            libpcap=libpcap,
        )

    def _describe(self) -> None:
        self.metrics.describe(self.role, libpcap_version())
        self.metrics.certificate("listen.tls", self._context)
        self.metrics.active(lambda: len(self._captures))
        self.metrics.limits(lambda: self.config.capture)

    def prepare(self) -> Callable[[], None]:
        """Read renewed certificates, and the limit on the number of captures."""
        config = self.config
        if self._reread is not None:
            most = self._reread().capture.max_captures
            config = replace(config, capture=replace(config.capture, max_captures=most))
        use_certificates = self._context.prepare()

        def use() -> None:
            self.config = config
            use_certificates()

        return use

    def drain(self) -> Deferred[Any]:
        """Refuse new captures, and end the running ones."""
        self._draining = True
        self.feedback.stop()
        self._strangers.flush()
        sessions = list(self._sessions)
        ended = DeferredList([session.finished for session in sessions], consumeErrors=True)
        for session in sessions:
            session.stop(EndReason.DRAINING)
        return ended.addTimeout(DRAIN_TIMEOUT, self.reactor, onTimeoutCancel=lambda *_: None)

    def _needed(self) -> list[str]:
        # Packet sockets need CAP_NET_RAW, setns(2) needs CAP_SYS_ADMIN.
        containers = self.config.containers
        if containers is not None and containers.access == "namespace":
            # Tested with real containers and an agent that does not run as root.
            # CAP_SYS_PTRACE: open /proc/PID/ns/net of processes of the container's
            # users.  CAP_DAC_READ_SEARCH: enter root's directories that contain
            # bind-mounted namespaces and runc's states; of the agent's child
            # processes only runc has it (`privileges.lend`).
            return ["dac_read_search", "net_raw", "sys_admin", "sys_ptrace"]
        return ["net_raw", "sys_admin"] if self.config.namespaces else ["net_raw"]

    def _check_peer(self, connection: SSL.Connection) -> None:
        check_allowed(connection, self.config.listen.tls.allowed_clients)

    # --- what sessions need -------------------------------------------------

    def hello(self) -> Hello:
        """The agent's greeting."""
        return Hello(
            level=COMPATIBILITY_LEVEL,
            role=self.role,
            id=self.config.id,
            version=__version__,
            time_us=now_us(),
            libpcap=libpcap_version(),
            capabilities=self._capabilities(),
        )

    def _capabilities(self) -> tuple[str, ...]:
        config = self.config
        kinds = {"interfaces": True, "namespaces": bool(config.namespaces)}
        kinds["containers"] = config.containers is not None
        lacking = set(privileges.missing(self._needed()))
        if "net_raw" in lacking:
            return ()
        entering = {"namespaces"}
        if config.containers is not None and config.containers.access == "namespace":
            entering.add("containers")
        return tuple(kind for kind in kinds if kinds[kind] and not (lacking and kind in entering))

    def joined(self, session: AgentSession) -> None:
        """Add a session with an authenticated api."""
        self._sessions.add(session)

    def left(self, session: AgentSession) -> None:
        """Remove a session whose connection is closed."""
        self._sessions.discard(session)

    def released(self, session: AgentSession) -> None:
        """Stop counting a capture.  Called when none of its sources is open or being opened."""
        self._captures.discard(session)

    def left_without_start(self, peer: str, reason: str) -> None:
        """Log that a peer disconnected without a START; any machine on the network can cause this."""
        self.metrics.without_start.inc()
        self._strangers.add((peer.rpartition(":")[0], reason), {"peer": peer, "reason": reason})

    def _log_strangers(self, count: int, facts: Mapping[str, Any]) -> None:
        self.log.warn("{peer} left without START: {reason}", count=count, **facts)

    def admit(self, session: AgentSession) -> None:
        """Count a new capture.

        Raises:
            LimitReached: Too many captures run, or the agent is shutting down.
        """
        if self._draining:
            raise LimitReached("the agent is shutting down")
        most = self.config.capture.max_captures
        if len(self._captures) >= most:
            raise LimitReached(f"agent {self.config.id} already runs {most} captures", "try again later")
        self._captures.add(session)

    def namespace(self, name: str | None) -> str | None:
        """The path of a named network namespace; None for the host's.

        Raises:
            TargetNotFound: The configuration does not contain the namespace.
        """
        if name is None:
            return None
        try:
            return str(self.config.namespaces[name])
        except KeyError:
            raise TargetNotFound(f"agent {self.config.id} is not configured to capture {name!r}") from None
