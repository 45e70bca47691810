"""Checking again whether the user of a running capture still has the role.  With a clock of its own."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pcapd.api.capture.rechecking import Rechecking
from pcapd.errors import Forbidden, LimitReached, ResolverUnavailable
from pcapd.limits import FOLLOW_JITTER, RECHECK_INTERVAL, RECHECK_PATIENCE, RECHECK_RETRY
from pcapd.wire import EndReason

#: Seconds after which a check has been made, whatever its jitter.
TURN, SOON = RECHECK_INTERVAL * (1 + FOLLOW_JITTER), RECHECK_RETRY * (1 + FOLLOW_JITTER)


class Scene:
    """A capture that is checked; `trouble` is what the next checks fail with."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.trouble: Exception | None = None
        self.asked = 0
        self.ended: list[tuple[EndReason, str]] = []
        self.rechecking = Rechecking(self.clock, self._check, self)

    def _check(self) -> Deferred[None]:
        self.asked += 1
        return succeed(None) if self.trouble is None else fail(self.trouble)

    def stop(self, reason: EndReason, message: str = "") -> None:
        self.ended.append((reason, message))
        self.rechecking.stop()


def test_the_role_is_checked_every_few_minutes() -> None:
    """While the user has the role, the capture goes on; a lost role ends it, with the reason."""
    scene = Scene()
    for number in range(5):
        assert scene.asked == number
        scene.clock.advance(TURN)
    scene.trouble = Forbidden("the role was taken away")
    scene.clock.advance(TURN)
    ((reason, message),) = scene.ended
    assert reason is EndReason.FORBIDDEN
    assert message == "you may not capture this any longer: the role was taken away"
    assert not scene.clock.getDelayedCalls()


@pytest.mark.parametrize("kind", [ResolverUnavailable, LimitReached, ZeroDivisionError])
def test_no_answer_is_not_a_lost_role(kind: type[Exception], logged_failures: Any) -> None:
    """Without an answer it is asked again soon; after an hour without one the capture ends."""
    scene = Scene()
    scene.clock.advance(TURN)
    scene.trouble = kind("no idea")
    since = scene.clock.seconds()
    while scene.clock.seconds() - since < RECHECK_PATIENCE - TURN:
        scene.clock.advance(SOON)
        assert not scene.ended
    scene.trouble = None
    scene.clock.advance(SOON)
    scene.trouble = kind("no idea")
    since, asked = scene.clock.seconds(), scene.asked
    while not scene.ended:
        scene.clock.advance(SOON)
    assert RECHECK_PATIENCE <= scene.clock.seconds() - since < RECHECK_PATIENCE + TURN
    assert scene.asked - asked > 30
    ((reason, message),) = scene.ended
    assert reason is EndReason.FORBIDDEN and "is not known since 20" in message
    logged_failures.flush(ZeroDivisionError)


def test_the_end_while_a_question_is_asked() -> None:
    """A capture that ends cancels its question, and the answer of one that cannot be cancelled does nothing."""
    scene = Scene()
    waiting: Deferred[None] = Deferred(lambda _: None)
    scene.rechecking._check = lambda: waiting
    scene.clock.advance(TURN)
    scene.rechecking.stop()
    assert waiting.called and not scene.ended and not scene.clock.getDelayedCalls()
