"""What the api's tests share; after each of them the log is searched for tokens."""

from __future__ import annotations

import io
from typing import Any, Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from demo.certificates import Authority, Credentials
from pcapd.net.logs import JsonLines
from tests.kit.unit.api import BOB, TOKEN, Network


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
