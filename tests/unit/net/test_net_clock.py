"""Deadlines for peers, which are not to blame for pauses of ours."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from pcapd.limits import LATE_GRACE
from pcapd.net.clock import Deadline


def test_a_deadline_in_time() -> None:
    """It comes when the seconds are over, once."""
    clock, called = Clock(), []
    deadline = Deadline(clock, 5.0, called.append, "called")
    clock.pump([0.5] * 9)
    assert called == [] and deadline.active()
    clock.pump([0.5] * 9)
    assert called == ["called"] and not deadline.active()


def test_a_deadline_after_a_pause() -> None:
    """What waits in the socket is read first; then it comes, however late that is, too."""
    clock, called = Clock(), []
    Deadline(clock, 5.0, called.append, "called")
    clock.advance(60.0)
    assert called == []
    clock.advance(60.0)
    assert called == ["called"]


@pytest.mark.parametrize("pauses", [0, 1])
def test_a_deadline_that_was_met(pauses: int) -> None:
    """Cancelled before it comes, or when what waited was read, it does not come."""
    clock, called = Clock(), []
    deadline = Deadline(clock, 5.0, called.append, "called")
    for _ in range(pauses):
        clock.advance(60.0)
    deadline.cancel()
    clock.pump([LATE_GRACE] * 10)
    assert called == [] and not deadline.active() and not clock.getDelayedCalls()
