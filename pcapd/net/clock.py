"""The clocks that the daemon reads: one for people and packets, one for timers."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["keep_steady", "now_us"]


def now_us() -> int:
    """Microseconds since the epoch, by the clock that stamps packets."""
    return time.time_ns() // 1000


def keep_steady(reactor: Any) -> None:
    """Let timers run by a clock that nobody sets; call it before any is started.

    Twisted's run by the wall clock.  Setting that an hour ahead would end every
    capture (nothing heard for an hour, its duration over), setting it back would
    keep every timer from firing for as long.
    """
    reactor.seconds = time.monotonic
