"""The daemon's clocks, one for logs and packets, one for timers; and deadlines for peers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pcapd.limits import LATE, LATE_GRACE

__all__ = ["Deadline", "cancel", "keep_steady", "now_us"]


def now_us() -> int:
    """Microseconds since the epoch, by the clock that stamps packets."""
    return time.time_ns() // 1000


def keep_steady(reactor: IReactorTime) -> None:
    """Make timers use the monotonic clock; call this before any timer is started.

    Twisted's timers use the wall clock.  Setting it an hour ahead would end every
    capture (an hour of silence, its duration over); setting it back would delay
    every timer by as long.
    """
    reactor.seconds = time.monotonic  # type: ignore[method-assign]


def cancel(timer: Any) -> None:
    """Cancel a delayed call or a `Deadline`, if there is one that is still active."""
    if timer is not None and timer.active():
        timer.cancel()


class Deadline:
    """Calls a function when a peer has not done something in time.

    A timer that fires late shows that we did not run for a while (SIGSTOP, a frozen
    machine), and the reactor runs timers before it reads sockets.  In that case the
    function is called `limits.LATE_GRACE` later: what the peer sent in time is read
    first, and its handler can cancel this.

    Args:
        reactor: For time.
        seconds: Time for the peer.
        function: Called with the arguments.
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
        # It refers to the owner, and the owner to us.  A flood of connections makes more of
        # such cycles than the garbage collector finds in time.
        self._function = _nothing


def _nothing() -> None:
    """Stands where a function was that is not called any more."""
