"""The clocks that the daemon reads, in the unit that the wire uses."""

from __future__ import annotations

import time

__all__ = ["now_us"]


def now_us() -> int:
    """Microseconds since the epoch, by the clock that stamps packets."""
    return time.time_ns() // 1000
