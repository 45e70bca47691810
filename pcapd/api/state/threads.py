"""Threads for operations that may take long."""

from __future__ import annotations

import threading

from twisted.python.threadpool import ThreadPool

from pcapd.limits import STORE_LEAVE_TIMEOUT

__all__ = ["Threads"]


class _Thread(threading.Thread):
    """A thread that does not keep the process alive: an operation on a store may take minutes."""

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*args, **named, daemon=True)  # type: ignore[arg-type]

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread, but not for long."""
        super().join(STORE_LEAVE_TIMEOUT if timeout is None else min(timeout, STORE_LEAVE_TIMEOUT))


class Threads(ThreadPool):
    """A pool of threads whose end is not awaited for longer than `STORE_LEAVE_TIMEOUT` each.

    Args:
        most: Number of threads at the same time.
        name: For their names.
    """

    threadFactory = _Thread

    def __init__(self, most: int, name: str) -> None:
        super().__init__(0, most, name)
