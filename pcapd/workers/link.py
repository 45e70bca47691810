"""The two ends of the connection between the supervisor and a worker: netstrings on a pair of sockets.

The worker sends ``ready`` once, when it listens.  The supervisor sends ``metrics``; the worker
answers ``metrics:`` and the text.  When one process ends, the other one reads the end of the stream.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import NetstringReceiver
from twisted.python.failure import Failure

from pcapd.limits import METRICS_MAX
from pcapd.net.reactor import ProcessReactor

__all__ = ["SupervisorEnd", "WorkerEnd", "join"]

_READY: Final = b"ready"
_METRICS: Final = b"metrics"
_ANSWER: Final = b"metrics:"


def join(reactor: ProcessReactor, descriptor: int, end: NetstringReceiver) -> None:
    """Connect an end with its socket, whose descriptor the caller may then close."""
    factory: Any = ServerFactory.forProtocol(lambda: end)
    factory.noisy = False
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)


class WorkerEnd(NetstringReceiver):
    """The worker's end.

    Args:
        gone: Called when the supervisor has ended.

    Attributes:
        registry: The metrics to answer with.
    """

    MAX_LENGTH = METRICS_MAX

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        self.registry = CollectorRegistry()

    def ready(self) -> None:
        """Say that this worker listens."""
        self.sendString(_READY)

    def stringReceived(self, string: bytes) -> None:
        """Answer."""
        if string == _METRICS:
            self.sendString(_ANSWER + generate_latest(self.registry))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """See `gone`."""
        self._gone()


class SupervisorEnd(NetstringReceiver):
    """The supervisor's end.

    Args:
        ready: Called when the worker listens.
    """

    MAX_LENGTH = METRICS_MAX

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready
        self._waiting: list[Deferred[str]] = []
        self._asked = False

    def metrics(self) -> Deferred[str]:
        """Ask for the worker's metrics; fires with a text, which is empty if the worker ends.

        At most one question is unanswered, for all who wait.
        """
        if not self._asked:
            self._asked = True
            self.sendString(_METRICS)
        answer: Deferred[str] = Deferred(self._waiting.remove)
        self._waiting.append(answer)
        return answer

    def stringReceived(self, string: bytes) -> None:
        """Take what the worker says."""
        if string == _READY:
            self._ready()
        elif string.startswith(_ANSWER):
            self._answer(string.removeprefix(_ANSWER).decode("utf-8", "replace"))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Answer all who wait."""
        self._answer("")

    def _answer(self, text: str) -> None:
        self._asked = False
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.callback(text)
