"""Deadlines for peers, which let us read first after a pause of our own."""

from __future__ import annotations

import gc
import weakref

import pytest
from twisted.internet.task import Clock

from pcapd.limits import LATE_GRACE
from pcapd.net.clock import Deadline


def test_a_deadline_in_time() -> None:
    """The function is called when the seconds are over, once."""
    clock, called = Clock(), []
    deadline = Deadline(clock, 5.0, called.append, "called")
    clock.pump([0.5] * 9)
    assert called == [] and deadline.active()
    clock.pump([0.5] * 9)
    assert called == ["called"] and not deadline.active()


def test_a_deadline_after_a_pause() -> None:
    """The function is called later, so that what waits in the socket is read first, and then in any case."""
    clock, called = Clock(), []
    Deadline(clock, 5.0, called.append, "called")
    clock.advance(60.0)
    assert called == []
    clock.advance(60.0)
    assert called == ["called"]


@pytest.mark.parametrize("pauses", [0, 1])
def test_a_deadline_that_was_met(pauses: int) -> None:
    """A deadline that is cancelled, in time or in the extra time after a pause, does not call its function."""
    clock, called = Clock(), []
    deadline = Deadline(clock, 5.0, called.append, "called")
    for _ in range(pauses):
        clock.advance(60.0)
    deadline.cancel()
    clock.pump([LATE_GRACE] * 10)
    assert called == [] and not deadline.active() and not clock.getDelayedCalls()


class Owner:
    """Keeps its deadline, as connections do."""

    def __init__(self, clock: Clock) -> None:
        self.deadline = Deadline(clock, 5.0, self.too_late)

    def too_late(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("ending", ["cancelled", "over"])
def test_an_owner_is_freed_without_the_garbage_collector(ending: str) -> None:
    """A deadline that has ended does not hold its owner: a flood of connections must not pile up."""
    clock = Clock()
    gc.disable()
    try:
        owner = Owner(clock)
        there = weakref.ref(owner)
        if ending == "cancelled":
            owner.deadline.cancel()
        clock.advance(5.0)
        del owner
        assert there() is None
    finally:
        gc.enable()
