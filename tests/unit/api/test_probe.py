"""How often it is looked whether an authority is there, with a clock of its own."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pcapd.api.resolvers.probe import HealthProbe
from pcapd.errors import ResolverUnavailable
from pcapd.limits import AUTHORITY_CHECK_INTERVAL, AUTHORITY_RETRY, AUTHORITY_TIMEOUT

#: By how much an interval differs from its constant, at the most: see `HealthProbe`.
JITTER = 0.2


class Scene:
    """An authority that is there, has `trouble`, or does not `answer`; and who looks for it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.trouble: Any = None
        self.answers = True
        self.looked_at: list[float] = []
        self.probe = HealthProbe(self.clock, "the oracle", "nothing is foretold", self._look)

    async def _look(self) -> None:
        self.looked_at.append(self.clock.seconds())
        if not self.answers:
            await Deferred()
        if self.trouble is not None:
            raise self.trouble

    def run(self, seconds: float) -> list[float]:
        """Let time pass; the intervals between the looks of that time, and the last one before it."""
        before = len(self.looked_at)
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
        times = self.looked_at[before - 1 :]
        return [later - earlier for earlier, later in zip(times, times[1:])]

    def stop(self) -> None:
        self.probe.stop()
        assert not self.clock.getDelayedCalls()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_it_is_there(scene: Scene) -> None:
    """An authority's state is unknown before the first answer, and checked once a minute while it is there."""
    assert scene.probe.trouble == "the oracle has not answered yet"
    scene.probe.start()
    assert scene.probe.trouble == ""
    intervals = scene.run(5 * AUTHORITY_CHECK_INTERVAL)
    assert len(intervals) >= 4
    assert min(intervals) >= AUTHORITY_CHECK_INTERVAL * (1 - JITTER)
    scene.stop()


def test_it_is_away(scene: Scene, events: list[dict[str, Any]]) -> None:
    """An authority that is away is asked soon, then less often up to a bound; one trouble is reported once."""
    scene.trouble = ResolverUnavailable("the oracle is out")
    scene.probe.start()
    assert scene.probe.trouble == "the oracle is out"
    intervals = scene.run(400)
    first, most = AUTHORITY_RETRY
    for expected, interval in zip((first, 2 * first, 4 * first), intervals):
        assert expected * (1 - JITTER) <= interval <= expected * (1 + JITTER) + 0.25
    assert len(intervals) > 10
    assert most * (1 - JITTER) <= max(intervals) <= most * (1 + JITTER) + 0.25
    assert sum("consequence" in event for event in events) == 1
    scene.stop()


def test_trouble_anew(scene: Scene) -> None:
    """New trouble is checked again soon, however long the previous one lasted."""
    away = ResolverUnavailable("the oracle is out")
    first, most = AUTHORITY_RETRY
    scene.trouble = away
    scene.probe.start()
    scene.run(100)
    scene.trouble = None
    scene.run(most * (1 + JITTER) + 0.25)
    assert scene.probe.trouble == ""
    scene.trouble = away
    (_, interval, *_) = scene.run(AUTHORITY_CHECK_INTERVAL * (1 + JITTER) + 10 * first)
    assert scene.probe.trouble == "the oracle is out"
    assert interval <= first * (1 + JITTER) + 0.25
    scene.stop()


def test_it_does_not_answer(scene: Scene) -> None:
    """A look that gets no answer ends after its time, and there is never a second one beside it."""
    scene.answers = False
    scene.probe.start()
    scene.clock.advance(AUTHORITY_TIMEOUT - 0.1)
    assert scene.probe.trouble == "the oracle has not answered yet" and len(scene.looked_at) == 1
    scene.clock.advance(0.1)
    assert scene.probe.trouble == "the oracle did not answer in time"
    scene.answers = True
    scene.run(2 * AUTHORITY_RETRY[0])
    assert scene.probe.trouble == ""
    scene.stop()


@pytest.mark.parametrize("answers", [True, False])
def test_stopped(scene: Scene, answers: bool) -> None:
    """A stopped probe asks nothing any more, whether it stopped between two looks or during one."""
    scene.answers = answers
    scene.probe.start()
    scene.stop()
    scene.clock.advance(AUTHORITY_TIMEOUT + 2 * AUTHORITY_CHECK_INTERVAL)
    assert len(scene.looked_at) == 1


def test_a_bug_is_not_told(scene: Scene, logged_failures: Any) -> None:
    """An unexpected exception stays in the log, and the probe goes on."""
    scene.trouble = ZeroDivisionError("inner workings")
    scene.probe.start()
    assert scene.probe.trouble == "checking the oracle failed"
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    scene.trouble = None
    scene.run(2 * AUTHORITY_RETRY[0])
    assert scene.probe.trouble == ""
    scene.stop()
