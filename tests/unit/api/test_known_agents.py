"""Known agents: which there are, and that they are asked slowly."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.task import Clock

from pcapd.api import known
from pcapd.api.known import KnownAgent, KnownAgents, places
from pcapd.config.schema import AgentsConfig, ApiConfig, ProbeConfig, StaticConfig, StaticTarget


def test_places() -> None:
    """Each agent of static targets and of the list is known once, by its address and port."""
    targets = {
        "web-1": StaticTarget("192.0.2.1", 9494, "web-1"),
        "web-0": StaticTarget("192.0.2.1", 9494, "web-0"),
        "vm": StaticTarget("192.0.2.1", 9495),
    }
    config = ApiConfig(
        id="api", agents=AgentsConfig(tls=None),  # type: ignore[arg-type]
        static=StaticConfig({}, targets), probe=ProbeConfig(agents=("192.0.2.1", "192.0.2.2")),
    )  # fmt: skip
    found = {(agent.host, agent.port): agent.targets for agent in places(config)}
    assert found == {
        ("192.0.2.1", 9494): ("web-0", "web-1"),
        ("192.0.2.1", 9495): ("vm",),
        ("192.0.2.2", 9494): (),
    }


class Schedule:
    """When each agent is asked; no connection is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, interval: float) -> None:
        self.clock = Clock()
        self.times: dict[str, list[float]] = {str(number): [] for number in range(count)}
        monkeypatch.setattr(known, "outgoing_socket", self._asked)
        agents = [KnownAgent(host, 9494) for host in self.times]
        anything: Any = None
        self.known = KnownAgents(
            self.clock, "api", anything, anything, agents=agents, interval=interval  # type: ignore[arg-type]
        )  # fmt: skip
        self.known.start()

    def _asked(self, host: str) -> Any:
        self.times[host].append(self.clock.seconds())
        raise OSError("no descriptors are left")

    def run(self, seconds: float) -> list[float]:
        """All times within so many seconds."""
        for _ in range(int(seconds * 100)):
            self.clock.advance(0.01)
        return sorted(time for times in self.times.values() for time in times)


def test_a_thousand_in_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the interval, about 1,000 agents at most are asked in a minute, none twice in a round."""
    schedule = Schedule(monkeypatch, 1000, 1.0)
    times = schedule.run(62)
    assert 900 < len(times) < 1100
    assert {len(times) for times in schedule.times.values()} <= {0, 1, 2}


def test_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """All agents are asked within a minute or so of the start, and later about once in each interval."""
    schedule = Schedule(monkeypatch, 50, 300.0)
    assert len(schedule.run(90)) >= 50 and all(schedule.times.values())
    times = schedule.run(1800)
    assert 50 + 1500 / 6 * 0.8 < len(times) < 50 + 1890 / 6 * 1.2


def test_questions_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions do not come at regular times, and each round has another order."""
    schedule = Schedule(monkeypatch, 20, 20.0)
    times = schedule.run(200)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) - min(gaps) > 0.5
    orders = {tuple(sorted(schedule.times, key=lambda host: schedule.times[host][turn])) for turn in range(3)}
    assert len(orders) == 3


def test_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the stop no agent is asked, and no timer is left."""
    schedule = Schedule(monkeypatch, 5, 1.0)
    before = schedule.run(5)
    schedule.known.stop()
    assert schedule.clock.getDelayedCalls() == []
    assert schedule.run(5) == before
