"""What a worker does that a single api does not: it speaks with its supervisor, and ends with it."""

from __future__ import annotations

import os
import signal
from typing import Final

from prometheus_client import CollectorRegistry

from pcapd.capture.hardening import end_with_parent
from pcapd.net.reactor import ProcessReactor
from pcapd.workers.link import WorkerEnd, join

__all__ = ["LINK", "VARIABLE", "Worker", "number_of_worker"]

#: Environment variable with the number of a worker, from 0.
VARIABLE: Final = "PCAPD_WORKER"
#: The worker's descriptor for its end of the link.
LINK: Final = 3


def number_of_worker() -> int | None:
    """Return the number of this process if a supervisor has started it; call this once, at the start.

    The process then ends with its supervisor, and Ctrl-C in a terminal reaches the supervisor alone.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    end_with_parent(signal.SIGTERM)
    os.setsid()
    return int(number)


class Worker:
    """The worker's side.

    Args:
        reactor: The reactor.

    Attributes:
        link: To the supervisor.
    """

    def __init__(self, reactor: ProcessReactor) -> None:
        self._reactor = reactor
        self._stopping = False
        self.link = WorkerEnd(self._stop)
        join(reactor, LINK, self.link)
        os.close(LINK)
        reactor.callWhenRunning(self._running)

    def _running(self) -> None:
        # systemd may send SIGTERM to each process, and the supervisor sends it too.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._stop))
        self.link.ready()

    def _stop(self) -> None:
        """Drain; only the first call has an effect."""
        if not self._stopping:
            self._stopping = True
            self._reactor.callWhenRunning(self._reactor.stop)

    def serve(self, registry: CollectorRegistry) -> None:
        """Answer the supervisor with these metrics."""
        self.link.registry = registry
