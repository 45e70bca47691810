"""Processes that admit captures in one database at the same moment."""

from __future__ import annotations

import multiprocessing
import uuid
from multiprocessing.synchronize import Barrier
from typing import Any
from unittest import mock

from twisted.internet import defer
from twisted.internet.task import Clock

from pcapd.api.state.database import Database
from pcapd.api.state.holding import Holding
from pcapd.api.state.rules import Held

_TIMEOUT = 60.0


def admitted(url: str, processes: int, tries: int, most: int) -> list[int]:
    """How many captures each of some processes could admit, when all begin at once.

    They run until all have tried, as their leases do.
    """
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()
    barrier = context.Barrier(processes)
    started = [
        context.Process(target=_admit, args=(url, tries, most, barrier, counts)) for _ in range(processes)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(_TIMEOUT)
        assert one.exitcode == 0
    return [counts.get() for _ in started]


def _at_once(_: Any, __: Any, work: Any) -> defer.Deferred[Any]:
    return defer.execute(work)


def _admit(url: str, tries: int, most: int, barrier: Barrier, counts: Any) -> None:
    with mock.patch("pcapd.api.state.database.deferToThreadPool", _at_once):
        clock: Any = Clock()
        barrier.wait(_TIMEOUT)
        database = Database(clock, url)
        holding = Holding(clock, database, "admitter", list, lambda *_: None, workers=2)
        passed: list[None] = []
        for _ in range(tries):
            wanted = Held(str(uuid.uuid4()), "alice", False)
            holding.admit(wanted, most, 1000).addCallbacks(passed.append, lambda _: None)
        counts.put(len(passed))
