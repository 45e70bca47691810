"""What stops a capture from outside, and what leaves it at once."""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import Iterator, List, Tuple

import pytest

from pcapd.ctl.stopping import LeaveNow, Parent, Stops

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A test process goes on as it was."""
    before = {number: signal.getsignal(number) for number in (INT, TERM, HUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("numbers", "reason", "leaves"),
    [
        ([INT], "interrupted", False),
        ([TERM], "interrupted", False),
        ([HUP], "hung up", False),
        ([INT, INT], "interrupted", True),
        ([INT, TERM], "interrupted", True),
        ([HUP, HUP, HUP], "hung up", False),  # the kernel's, the shell's
        ([TERM, HUP], "interrupted", False),  # as systemd stops a service
        ([HUP, INT], "hung up", False),
        ([HUP, INT, INT], "hung up", True),
    ],
)
def test_signals(numbers: List[signal.Signals], reason: str, leaves: bool) -> None:
    """Any stop signal stops; a second Ctrl-C or SIGTERM leaves at once."""
    with Stops() as stops:
        stops.leave_at_once = False
        assert stops.reason == ""
        left = False
        try:
            send(*numbers)
        except LeaveNow:
            left = True
        assert (stops.reason, left) == (reason, leaves)
        poll = select.poll()
        stops.watch(poll)
        stops.drain(poll.poll(0))
        assert not poll.poll(0)
    send(*numbers)  # nothing of them reaches a process that is about to end


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_before_there_is_anything_to_finish(number: signal.Signals) -> None:
    """One signal leaves at once while nothing has started."""
    with Stops(), pytest.raises(LeaveNow):
        send(number)


def test_a_hang_up_that_is_ignored() -> None:
    """A hang-up that is ignored, as under ``nohup``, stays ignored, and other signals stop."""
    signal.signal(HUP, signal.SIG_IGN)
    with Stops() as stops:
        stops.leave_at_once = False
        send(HUP)
        assert stops.reason == ""
        send(INT)
        assert stops.reason == "interrupted"
    assert signal.getsignal(HUP) is signal.SIG_IGN


def held() -> Tuple[Parent, socket.socket]:
    ours, theirs = socket.socketpair()
    parent = Parent("the cf CLI")
    parent.hold(ours)
    return parent, theirs


@pytest.mark.parametrize("ends", ["closed", "reset", "another parent"])
def test_a_parent_that_is_gone(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that is gone is reported once, by its closed connection or a new parent id, without a busy loop."""
    parent, theirs = held()
    with theirs, Stops(parent) as stops:
        poll = select.poll()
        stops.watch(poll)
        theirs.send(b"what nobody asked for")
        assert stops.reason == "" and not poll.poll(0)
        if ends == "another parent":
            monkeypatch.setattr(os, "getppid", lambda: -1)
        elif ends == "reset":
            parent._lifeline.send(b"x")  # type: ignore[union-attr]  # what it has not read makes it a reset
            theirs.close()
        else:
            theirs.close()
        assert stops.reason == stops.reason == "the cf CLI is gone"
        assert not poll.poll(0)


def test_ctrl_c_and_the_end_of_the_parent_are_one_stop() -> None:
    """Ctrl-C reaches both: the second of the two events must not mean that somebody lost patience."""
    parent, theirs = held()
    with Stops(parent) as stops:
        stops.leave_at_once = False
        send(INT)
        theirs.close()
        assert stops.reason == "interrupted" and parent.look()
