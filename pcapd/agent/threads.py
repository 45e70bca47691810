"""Threads for blocking work: opening and closing captures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pcapd.limits import AGENT_THREADS, INSTANCES_MAX
from pcapd.net.turns import Queue

__all__ = ["Threads"]

T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    client: str
    function: Callable[[], Any]
    done: Deferred[Any] = field(default_factory=Deferred)


class Threads:
    """Runs each function on its own thread, because a function may enter a network namespace.

    Only a few run at a time, because they compete with the reactor for the interpreter's lock.
    The others wait, and the users take turns.

    Args:
        reactor: Fires the Deferreds of the results on its own thread.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        # Large enough for all captures that an agent accepts.
        self._queue: Queue[_Job] = Queue(AGENT_THREADS, 2 * INSTANCES_MAX, 2 * INSTANCES_MAX)

    def run(self, user: str, function: Callable[[], T]) -> Deferred[T]:
        """Run a function when it is the user's turn; the Deferred fires with its return value."""
        job = _Job(user, function)
        self._queue.add(job)
        self._begin()
        return job.done

    def _begin(self) -> None:
        while (job := self._queue.take()) is not None:
            threading.Thread(target=self._work, args=(job,), name="open-capture", daemon=True).start()

    def _work(self, job: _Job) -> None:
        result: Any
        try:
            result = job.function()
        except BaseException:  # noqa: BLE001 - the caller handles every exception
            result = Failure()
        self._reactor.callFromThread(self._worked, job, result)

    def _worked(self, job: _Job, result: Any) -> None:
        self._queue.give_back(job.client)
        job.done.callback(result)
        self._begin()
