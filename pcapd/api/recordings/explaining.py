"""Explains clips, one at a time, each in a process of its own (`pcapd.api.recordings.explained`).

A thread sends the packets to the process, so that neither the reactor nor the store's threads wait.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from pcapd.api.recordings.fetching import File
from pcapd.api.recordings.store import Store
from pcapd.limits import CLIP_FINDINGS_MAX, EXPLAIN_CLIP_MAX, EXPLAIN_CLIP_TIME
from pcapd.net.reactor import Reactor

__all__ = ["Explainer"]

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from pcapd.api.recordings.explained import main; main()"
)


class Explainer:
    """See the module.

    Args:
        reactor: The reactor.
        store: The store.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, store: Store) -> None:
        self._reactor = reactor
        self._store = store
        self._pool = ThreadPool(0, 1, "explain")
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def start(self) -> None:
        """Allow threads."""
        self._pool.start()

    def stop(self) -> None:
        """End what is under way."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()
        self._pool.stop()

    def explain(self, file: File) -> Deferred[list[Any] | None]:
        """The findings in a file as JSON values; None if it is too large, or cannot be explained."""
        if file.size > EXPLAIN_CLIP_MAX:
            self.log.info("a clip of {size} bytes is too large to be explained", size=file.size)
        done: Deferred[list[Any] | None] = deferToThreadPool(self._reactor, self._pool, self._work, file)
        return done

    def _work(self, file: File) -> list[Any] | None:
        if file.size > EXPLAIN_CLIP_MAX or self._stopped:
            return None
        process = subprocess.Popen(  # noqa: S603 - no argument is from a user
            [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
        )
        self._process = process
        # Processor time is limited by the process itself; this is for a store that does not answer.
        watch = threading.Timer(2 * EXPLAIN_CLIP_TIME, process.kill)
        watch.start()
        try:
            return self._converse(process, file)
        except Exception as error:  # noqa: BLE001 - the clip is kept whatever happens here
            self.log.warn("a clip is not explained: {reason}", reason=type(error).__name__)
            return None
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            self._process = None

    def _converse(self, process: subprocess.Popen[bytes], file: File) -> list[Any] | None:
        assert process.stdin is not None and process.stdout is not None
        with process.stdout as answer:
            with contextlib.suppress(BrokenPipeError), process.stdin as packets:
                for piece in self._store.pieces(file.extracts):
                    packets.write(piece)
            # The process prints only after it has read everything, so neither waits for the other.
            said = answer.read(2 * CLIP_FINDINGS_MAX)
        if process.wait() != 0:
            return None
        found = json.loads(said)
        return found if isinstance(found, list) else None
