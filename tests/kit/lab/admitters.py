"""Processes that admit captures in one database: ``python -m tests.kit.lab.admitters URL TRIES MOST``.

Each says that it is ready, waits for a line, tries to admit, prints how many captures were admitted, and
waits for the end of its input, while its lease runs.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import Any
from unittest import mock

from twisted.internet import defer
from twisted.internet.task import Clock

from demo.daemons import environment
from demo.processes import ROOT
from pcapd.api.state.database import Database
from pcapd.api.state.holding import Holding
from pcapd.api.state.rules import Held


def admitted(url: str, processes: int, tries: int, most: int) -> list[int]:
    """How many captures each of some processes could admit, when all begin at once."""
    argv = [sys.executable, "-m", "tests.kit.lab.admitters", url, str(tries), str(most)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(argv, cwd=ROOT, env=environment(), **pipes)  # type: ignore[call-overload]
        for _ in range(processes)
    ]
    try:
        for one in started:
            assert one.stdout.readline() == "ready\n"
        for one in started:
            one.stdin.write("\n")
            one.stdin.flush()
        return [int(one.stdout.readline()) for one in started]
    finally:
        for one in started:
            one.communicate()


def _at_once(_: Any, __: Any, work: Any) -> defer.Deferred[Any]:
    return defer.execute(work)


def _main(url: str, tries: str, most: str) -> None:
    with mock.patch("pcapd.api.state.database.deferToThreadPool", _at_once):
        clock: Any = Clock()
        print("ready", flush=True)
        sys.stdin.readline()
        database = Database(clock, url)
        holding = Holding(clock, database, "admitter", list, lambda *_: None, workers=2)
        passed: list[None] = []
        for _ in range(int(tries)):
            holding.admit(Held(str(uuid.uuid4()), "alice", False), int(most), 1000).addCallbacks(
                passed.append, lambda _: None
            )
        print(len(passed), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
