"""What the tests of the agent's sessions share."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from demo.certificates import Authority, Credentials
from pcapd.agent import reading
from tests.kit.unit.agent import World


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue_agent("session-agent")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, credentials: Credentials) -> Iterator[World]:
    """An agent that may capture in namespace web-0; nothing may be left running at the end."""
    monkeypatch.setattr(reading, "BATCH_PACKETS", 1)  # a batch that is not full empties the ring
    world = World(monkeypatch, credentials, namespaces={"web-0": Path("/nowhere/web-0")})
    yield world
    for session in list(world.agent._sessions):
        session.transport.leave()
    world.agent.drain()  # which logs what was summed up
    world.reactor.advance(0)
    assert world.reactor.getDelayedCalls() == []
    assert world.reactor.readers == set()
    assert all("close" in source.calls for source in world.sources)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What the log warns of."""
    texts: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.warn:
            texts.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)
