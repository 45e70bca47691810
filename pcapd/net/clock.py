"""A clock for logs and packets, a clock for timers, and deadlines for peers."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pcapd.limits import LATE, LATE_GRACE

__all__ = ["Deadline", "cancel", "keep_steady", "now_us", "rfc3339"]


def now_us() -> int:
    """Microseconds since the epoch, by the clock that the kernel uses for packet timestamps."""
    return time.time_ns() // 1000


def rfc3339(us: int) -> str:
    """A time in microseconds since the epoch, to the second, for people (RFC 3339)."""
    moment = datetime.datetime.fromtimestamp(us // 1_000_000, datetime.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def keep_steady(reactor: IReactorTime) -> None:
    """Make timers use the monotonic clock; call this before any timer is started.

    Twisted's timers use the wall clock.  If it were set an hour ahead, every capture would end,
    because an hour would seem to have passed.  If it were set an hour back, every timer would
    be an hour late.
    """
    reactor.seconds = time.monotonic  # type: ignore[method-assign]


def cancel(timer: Any) -> None:
    """Cancel a delayed call or a `Deadline` if it is still active; None is ignored."""
    if timer is not None and timer.active():
        timer.cancel()


class Deadline:
    """Calls a function when a peer has not done something in time.

    If the timer fires late, this process did not run for a while (SIGSTOP, a frozen machine),
    and the peer's data may not have been read yet, because the reactor runs timers before it
    reads sockets.  Then the function is called `limits.LATE_GRACE` seconds later, unless the
    deadline is cancelled while this data is read.

    Args:
        reactor: Provides the time and the timer.
        seconds: The time that the peer has.
        function: Called with `arguments` when the time is over.
    """

    def __init__(
        self, reactor: IReactorTime, seconds: float, function: Callable[..., Any], *arguments: Any
    ) -> None:
        self._reactor = reactor
        self._function: Callable[[], Any] = partial(function, *arguments)
        self._due = reactor.seconds() + seconds
        self._call = reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        if self._reactor.seconds() - self._due < LATE:
            self._over()
        else:
            self._call = self._reactor.callLater(LATE_GRACE, self._over)

    def _over(self) -> None:
        function, self._function = self._function, _nothing
        function()

    def active(self) -> bool:
        """Whether the function is still to be called."""
        return bool(self._call.active())

    def cancel(self) -> None:
        """Do not call the function."""
        self._call.cancel()
        # The function refers to the owner, and the owner to this deadline.  A flood of connections
        # would create such reference cycles faster than the garbage collector removes them.
        self._function = _nothing


def _nothing() -> None:
    """Replaces a function that must not be called any more."""
