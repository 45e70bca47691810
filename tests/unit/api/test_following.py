"""Following an app: who is added when, what is said, and when it ends.  With a clock of its own."""

from __future__ import annotations

from typing import Any, Optional, Union

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pcapd.api.capture.following import Following
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.errors import LimitReached, ResolverUnavailable, TargetNotFound, Unauthenticated
from pcapd.limits import FOLLOW_ATTEMPTS, FOLLOW_INTERVAL, FOLLOW_INTERVAL_MAX, REDIAL_MAX, REDIALS_MAX
from pcapd.wire import Container, Notice, NoticeType

#: Longer than any interval with its jitter, shorter than two.
TURN = FOLLOW_INTERVAL * 1.3
SECOND = 1_000_000
BEGAN = 1_800_000_000 * SECOND


def target(index: int, handle: str, host: str = "10.0.0.1", started: Optional[int] = None) -> Target:
    return Target(f"myapp/{index}", host, 9494, None, Container("app", index, handle), started)


class Capture:
    """What following sees of a capture."""

    def __init__(self, *targets: Target) -> None:
        self.targets = targets
        self.added: list[Target] = []
        self.said: list[tuple[NoticeType, str, str]] = []
        self.settled = 0
        self.full = False

    def add_target(self, target: Target) -> bool:
        self.added.append(target)
        return not self.full

    def settle(self) -> None:
        self.settled += 1

    def say(self, kind: NoticeType, message: str, origin: str = "api") -> None:
        self.said.append((kind, message, origin))


class Scene:
    """A capture that is followed; `answers` are what Cloud Controller says next, the last for ever."""

    def __init__(self, *targets: Target, patient: bool = False) -> None:
        self.clock = Clock()
        self.capture = Capture(*targets)
        self.answers: list[Union[Resolved, Exception]] = [Resolved("alice", targets, identity="a")]
        self.asked = 0
        self.following = Following(
            self.clock,
            self._survey,
            self.capture,
            lambda: BEGAN + int(self.clock.seconds() * SECOND),
            patient=patient,
        )
        for one in targets:
            self.following.opened(one)

    def _survey(self) -> Deferred[Resolved]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def now_there_are(self, *targets: Target, notices: tuple[Notice, ...] = ()) -> None:
        self.answers = [Resolved("alice", targets, notices, identity="a")]

    def turn(self, seconds: float = TURN) -> None:
        self.clock.advance(seconds)

    def stop(self) -> None:
        self.following.stop()
        assert not self.clock.getDelayedCalls()


def test_nothing_changes() -> None:
    """Unchanged containers are not captured twice, and cause no notice."""
    scene = Scene(target(0, "a"), target(1, "b"))
    for _ in range(5):
        scene.turn()
    assert scene.asked == 5 and not scene.capture.added and not scene.capture.said
    scene.stop()


def test_restart() -> None:
    """A new container of the same index is captured; the gap is told from the end of the old one."""
    old, new = target(0, "a"), target(0, "b", started=BEGAN + 5 * SECOND)
    scene = Scene(old)
    scene.clock.advance(3)
    scene.following.gone(old)
    scene.now_there_are(new)
    scene.turn()
    assert scene.capture.added == [new]
    scene.following.opened(new)
    scene.following.opened(new)  # its second interface
    ((kind, words, origin),) = scene.capture.said
    assert (kind, origin) == (NoticeType.INSTANCE_UNAVAILABLE, "myapp/0")
    assert "from 2027-01-15T08:00:03Z to 2027-01-15T08:00:16Z" in words
    scene.stop()


def test_new_instance() -> None:
    """An added instance counts as missed from its start, but never from before the capture."""
    first = target(0, "a")
    scene = Scene(first)
    young, old = target(1, "b", started=BEGAN + 9 * SECOND), target(2, "c", started=BEGAN - 999 * SECOND)
    scene.now_there_are(first, young, old)
    scene.turn()
    assert scene.capture.added == [young, old]
    for one in scene.capture.added:
        scene.following.opened(one)
    assert "from 2027-01-15T08:00:09Z" in scene.capture.said[0][1]
    assert "from 2027-01-15T08:00:00Z" in scene.capture.said[1][1]
    scene.stop()


def test_same_handle_elsewhere() -> None:
    """A container is identified by its cell as well as by its handle."""
    scene = Scene(target(0, "a"))
    moved = target(0, "a", host="10.0.0.2")
    scene.now_there_are(moved)
    scene.turn()
    assert scene.capture.added == [moved]
    scene.stop()


def test_attempts() -> None:
    """A container that cannot be captured is tried a few times, not for ever."""
    scene = Scene(target(0, "a"))
    bad = target(1, "b")
    scene.now_there_are(bad)
    for _ in range(FOLLOW_ATTEMPTS + 5):
        scene.turn()
        scene.following.gone(bad)
    assert scene.capture.added == [bad] * FOLLOW_ATTEMPTS
    scene.stop()


def test_full() -> None:
    """An instance that the capture refuses is not offered again."""
    scene = Scene(target(0, "a"))
    scene.capture.full = True
    scene.now_there_are(target(1, "b"))
    for _ in range(5):
        scene.turn()
    assert len(scene.capture.added) == 1
    scene.stop()


def test_reconnect() -> None:
    """A lost agent that is back is asked again, and the gap is told."""
    one = target(0, "a", started=BEGAN - 100 * SECOND)
    scene = Scene(one)
    scene.clock.advance(2)
    scene.following.gone(one)
    scene.turn()
    scene.following.opened(one)
    assert "from 2027-01-15T08:00:02Z" in scene.capture.said[0][1]
    scene.stop()


def test_notices_once() -> None:
    """An instance that is down is reported when that is new, not at every look."""
    scene = Scene(target(0, "a"))
    down = Notice(NoticeType.INSTANCE_UNAVAILABLE, "is DOWN", "myapp/1")
    scene.now_there_are(target(0, "a"), notices=(down,))
    for _ in range(3):
        scene.turn()
    assert scene.capture.said == [(down.type, "is DOWN", "myapp/1")]
    scene.stop()


def test_refused() -> None:
    """A token that is not accepted any more ends it, plainly; so does an app that is gone."""
    for error in (Unauthenticated("no"), TargetNotFound("gone")):
        scene = Scene(target(0, "a"))
        scene.answers = [error]
        scene.turn()
        ((kind, words, _),) = scene.capture.said
        assert kind is NoticeType.INSTANCE_UNAVAILABLE and "not followed any more" in words
        assert not scene.following.watching and scene.capture.settled == 1
        scene.turn(1000)
        assert scene.asked == 1
        scene.stop()


def test_a_bug_is_not_told(logged_failures: Any) -> None:
    """An unexpected exception ends the following, and its text stays in the log."""
    scene = Scene(target(0, "a"))
    scene.answers = [ZeroDivisionError("inner workings")]
    scene.turn()
    ((_, words, _),) = scene.capture.said
    assert "the api failed; its log has the details" in words and "inner workings" not in words
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert not scene.following.watching and scene.capture.settled == 1
    scene.stop()


def test_trouble() -> None:
    """Cloud Controller's trouble is waited out, ever more patiently, and said once."""
    for error in (ResolverUnavailable("away"), LimitReached("too often")):
        scene = Scene(target(0, "a"))
        scene.answers = [error]
        for _ in range(100):
            scene.clock.advance(10)
        assert 8 <= scene.asked <= 1000 / FOLLOW_INTERVAL_MAX / 0.8 + 4
        assert len(scene.capture.said) == 1 and scene.following.watching
        scene.now_there_are(target(0, "a"), target(1, "b"))
        scene.turn(FOLLOW_INTERVAL_MAX * 1.3)
        assert [one.name for one in scene.capture.added] == ["myapp/1"]
        assert "again" in scene.capture.said[-1][1]
        asked = scene.asked
        scene.turn()
        assert scene.asked == asked + 1, "as often as before the trouble"
        scene.stop()


def test_who_says_when_to_come_back_is_not_asked_before() -> None:
    """Retry-After outweighs our own interval, and jitter never shortens it."""
    scene = Scene(target(0, "a"))
    error = LimitReached("too often")
    error.retry_after = 500
    scene.answers = [error]
    scene.turn()
    assert scene.asked == 1
    for _ in range(48):
        scene.clock.advance(10)
    assert scene.asked == 1
    for _ in range(30):
        scene.clock.advance(10)
    assert scene.asked == 2
    scene.stop()


@pytest.mark.parametrize("answer", [None, Resolved("alice", (target(1, "b"),), identity="a")])
def test_end_while_asking(answer: Optional[Resolved]) -> None:
    """The end of the capture ends a question that is under way; nothing is done or said after it."""
    cancelled = []

    def cancel(question: Deferred[Resolved]) -> None:
        cancelled.append(question)
        if answer is not None:  # it was on its way
            question.callback(answer)

    scene = Scene(target(0, "a"))
    scene.following._survey = lambda: Deferred(cancel)
    scene.turn()
    scene.stop()
    assert len(cancelled) == 1 and not scene.capture.said and not scene.capture.added


def test_an_agent_that_is_away_for_long() -> None:
    """A recording attempts a container for more than an hour, less and less often; a capture gives up."""
    for patient in (False, True):
        scene = Scene(target(0, "a"), patient=patient)
        scene.following.gone(target(0, "a"))
        for _ in range(int(4 * 3600 / TURN)):
            before = len(scene.capture.added)
            scene.turn()
            for one in scene.capture.added[before:]:
                scene.following.gone(one)
        assert len(scene.capture.added) == (REDIALS_MAX if patient else FOLLOW_ATTEMPTS)
        scene.stop()


def test_attempts_count_anew() -> None:
    """A container that was captured for a while may be attempted as often as before."""
    one = target(0, "a")
    scene = Scene(one, patient=True)
    for _ in range(2 * REDIALS_MAX):
        scene.clock.advance(REDIAL_MAX)
        scene.following.gone(one)
        before = len(scene.capture.added)
        while len(scene.capture.added) == before:
            scene.turn()
        scene.following.opened(one)
    scene.stop()


def test_containers_that_are_gone_take_no_memory() -> None:
    """An app that crashes all the time leaves nothing behind but the names of its instances."""
    scene = Scene(target(0, "0"), patient=True)
    for number in range(1, 500):
        scene.following.gone(target(0, str(number - 1)))
        scene.now_there_are(target(0, str(number)))
        scene.turn()
        scene.following.opened(target(0, str(number)))
    kept = vars(scene.following)
    sizes = {name: len(value) for name, value in kept.items() if isinstance(value, (dict, set))}
    assert max(sizes.values()) < 10, sizes
    scene.stop()
