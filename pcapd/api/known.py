"""The agents that the api knows, and what it learns of each before a capture needs it.

Known are the agents of static targets, and those that the section ``probe`` lists.  The others,
on Diego cells and on VMs of BOSH, cannot be listed: Cloud Controller and director answer only a
user's token.

Agents are asked in turn, in a random order, one every `spacing` seconds on average: each once in
``probe.interval``, and never more than 1,000 in a minute.  The api connects as for a capture,
receives HELLO and closes the connection.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IReactorTime

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.config.schema import AgentsConfig, ApiConfig
from pcapd.errors import PcapdError
from pcapd.limits import (
    AGENT_SILENCE_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    PROBE_FIRST_ROUND,
    PROBE_JITTER,
    PROBE_SPACING,
    PROBED_TEXT_MAX,
)
from pcapd.net.clock import Deadline, cancel, now_us
from pcapd.net.framed import FramedProtocol
from pcapd.net.outgoing import connect_tls, outgoing_socket
from pcapd.net.reactor import SocketReactor
from pcapd.net.tls import check_server_name
from pcapd.wire import Caller, Event, Hello

__all__ = ["KnownAgent", "KnownAgents", "State", "places"]


class State(Enum):
    """What the last probe of an agent found."""

    UNASKED = "unasked"
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


@dataclass
class KnownAgent:
    """One agent, and what its last answer said.

    Attributes:
        targets: Names of the static targets at this agent.
        trouble: Why it is unreachable; empty otherwise.
        capabilities: What it can capture now; empty if it is too old to say.
        expires: When its certificate expires, in seconds since the epoch; None before the first answer.
        asked_us: When it was last asked, microseconds since the epoch; None before.
    """

    host: str
    port: int
    targets: tuple[str, ...] = ()
    state: State = State.UNASKED
    trouble: str = ""
    id: str = ""
    version: str = ""
    level: int | None = None
    libpcap: str = ""
    capabilities: tuple[str, ...] = ()
    expires: float | None = None
    asked_us: int | None = None
    probe: Any = field(default=None, repr=False)

    @property
    def at(self) -> tuple[str, int]:
        """Address and port."""
        return self.host, self.port

    def record(self) -> dict[str, Any]:
        """The agent in the answer of ``GET /v1/agents``."""
        values = {name: value for name, value in vars(self).items() if name != "probe"}
        return {**values, "state": self.state.value}


def places(config: ApiConfig) -> list[KnownAgent]:
    """The agents that a configuration names, none twice."""
    found: dict[tuple[str, int], list[str]] = {}
    for name, target in config.static.targets.items() if config.static else ():
        found.setdefault((target.host, target.port), []).append(name)
    for host in config.probe.agents:
        found.setdefault((host, config.agents.port), [])
    return [KnownAgent(host, port, tuple(sorted(names))) for (host, port), names in found.items()]


class KnownAgents:
    """Asks each agent from time to time.

    Args:
        reactor: For sockets and timers.
        api_id: The name of this api, sent in HELLO.
        config: How to connect to agents.
        context: Makes TLS contexts.
        agents: All known agents.
        interval: Seconds between two probes of an agent.
    """

    def __init__(
        self,
        reactor: SocketReactor,
        api_id: str,
        config: AgentsConfig,
        context: Callable[[], SSL.Context],
        *,
        agents: Iterable[KnownAgent],
        interval: float,
    ) -> None:
        self._reactor = reactor
        self._api_id = api_id
        self._config = config
        self._context = context
        self.agents = list(agents)
        self._interval = interval
        self._turn: list[KnownAgent] = []
        self._rounds = 0
        self._timer: Any = None

    def start(self) -> None:
        """Start to ask; the first round takes at most a minute, or 60 ms for each agent."""
        if self.agents:
            self._wait()

    def stop(self) -> None:
        """Stop asking, and close the open connections."""
        cancel(self._timer)
        for agent in self.agents:
            if agent.probe is not None:
                agent.probe.give_up(PcapdError("the api is shutting down"))

    @property
    def spacing(self) -> float:
        """Seconds between two probes, on average."""
        interval = min(self._interval, PROBE_FIRST_ROUND) if self._rounds <= 1 else self._interval
        return max(PROBE_SPACING, interval / len(self.agents))

    def _wait(self) -> None:
        if not self._turn:
            self._rounds += 1
            self._turn = random.sample(self.agents, len(self.agents))
        spread = random.uniform(1 - PROBE_JITTER, 1 + PROBE_JITTER)  # noqa: S311
        self._timer = self._reactor.callLater(self.spacing * spread, self._next)

    def _next(self) -> None:
        agent = self._turn.pop()
        if agent.probe is None:
            self._ask(agent)
        self._wait()

    def _ask(self, agent: KnownAgent) -> None:
        agent.asked_us = now_us()
        try:
            sock = outgoing_socket(agent.host)
        except OSError:  # says nothing of the agent
            return
        agent.probe = _Probe(self._reactor, agent, self._api_id)
        connect_tls(
            self._reactor,
            sock,
            (agent.host, agent.port),
            agent.probe,
            self._context(),
            lambda connection: check_server_name(connection, self._config.tls.server_name),
            self._config.connect_timeout,
        )


class _Probe(FramedProtocol):
    """A connection that ends after HELLO."""

    _session: Caller

    def __init__(self, reactor: IReactorTime, agent: KnownAgent, api_id: str) -> None:
        super().__init__(reactor, Caller(), AGENT_SILENCE_TIMEOUT)
        self._known = agent
        self._api_id = api_id
        self._expires: float | None = None
        self._timer: Any = None
        self._answered = False

    def ready(self) -> None:
        """Wait for HELLO after TLS."""
        self._expires = self.transport.getPeerCertificate().not_valid_after_utc.timestamp()
        cause = PcapdError(f"waited {HANDSHAKE_TIMEOUT:g} s for HELLO")
        self._timer = Deadline(self._reactor, HANDSHAKE_TIMEOUT, self.give_up, cause)

    def event(self, event: Event) -> None:
        """Note what HELLO says, answer it, and close."""
        hello = event.message
        if not isinstance(hello, Hello) or self._answered:
            return
        self._answered = True
        known = self._known
        known.state, known.trouble = State.REACHABLE, ""
        known.id, known.version, known.libpcap = (
            text[:PROBED_TEXT_MAX] for text in (hello.id, hello.version, hello.libpcap or "")
        )
        known.level, known.expires = hello.level, self._expires
        known.capabilities = tuple(text[:PROBED_TEXT_MAX] for text in hello.capabilities[:8])
        # With this HELLO the agent knows that the connection was no stranger's.
        mine = Hello(COMPATIBILITY_LEVEL, "api", self._api_id, __version__, now_us())
        self.transport.write(self._session.hello(mine))
        self.transport.loseConnection()

    def lost(self, reason: Exception) -> None:
        """Note why there was no HELLO."""
        cancel(self._timer)
        self._known.probe = None
        if not self._answered:
            self._known.state, self._known.trouble = State.UNREACHABLE, str(reason)[:PROBED_TEXT_MAX]
