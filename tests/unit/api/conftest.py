"""What the api's tests share; after each of them the log is searched for tokens."""

from __future__ import annotations

import io
from typing import Any, Iterator, Optional

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from demo.certificates import Authority, Credentials
from pcapd.api.capture.agentlink import Agents
from pcapd.api.capture.audit import Trail
from pcapd.api.capture.life import Capture
from pcapd.api.metrics import Metrics
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.config.schema import AgentsConfig, ApiLimits
from pcapd.net.logs import JsonLines
from pcapd.wire import Request
from tests.kit.unit.api import BOB, TOKEN, TRAFFIC, Make, Network, Sink, targets
from tests.kit.unit.front import Front


@pytest.fixture(autouse=True)
def events() -> Iterator[list[dict[str, Any]]]:
    """The events that were logged; none of them may hold a token, in whatever form."""
    seen: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)
    output = io.StringIO()
    write = JsonLines(output)
    for event in seen:
        write(event)
    everything = output.getvalue() + repr(seen)
    assert TOKEN not in everything and BOB not in everything


@pytest.fixture(scope="session")
def credentials(authority: Authority) -> Credentials:
    return authority.issue_api("api-under-test")


@pytest.fixture
def reactor() -> Clock:
    return Clock()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, reactor: Clock) -> Network:
    return Network(monkeypatch, reactor)


@pytest.fixture
def front(reactor: Clock, network: Network, credentials: Credentials) -> Iterator[Front]:
    front = Front(reactor, credentials)
    yield front
    front.close()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def make(reactor: Clock, network: Network, sink: Sink) -> Iterator[Make]:
    """Start captures; nothing of them may be left running in the end."""
    captures: list[Capture] = []

    def start(
        *names: str,
        limits: Optional[ApiLimits] = None,
        places: Optional[tuple[Target, ...]] = None,
        **wanted: Any,
    ) -> Capture:
        chosen = places or targets(*names)
        request = Request(targets=tuple(target.name for target in chosen), **wanted)
        agents: Any = Agents(reactor, "api/0", AgentsConfig(tls=None), lambda: None, lambda: TRAFFIC)  # type: ignore[arg-type]
        metrics = Metrics()
        capture = Capture(
            agents,
            metrics,
            limits or ApiLimits(),
            request,
            Resolved("alice", chosen, identity="static:alice"),
            sink,
            id="capture-1",
            request_id="request-1",
            trail=Trail(reactor, None, metrics.audit_failures),
            asked_from={"client": "203.0.113.7:5555"},
        )
        captures.append(capture)
        capture.start()
        return capture

    yield start
    for capture in captures:
        capture.abandon("the test is over")
        assert capture.finished.called
    reactor.advance(0)
    assert reactor.getDelayedCalls() == []
