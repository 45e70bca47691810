"""Starts the workers, restarts those that end, and drains and reloads all of them.

A worker's states::

    WAITING ──▶ STARTING ──it listens──▶ READY
       ▲            │                      │
       └────────────┴───────it ends────────┘      after a pause (`pause_before`)

The first worker starts alone; the others follow when it listens.  If a worker ends before it
listens while no other one does, nothing serves the port: then the supervisor ends with status 1.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError, ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.config.schema import ApiConfig
from pcapd.limits import (
    METRICS_TIMEOUT,
    WORKER_RESTART_MAX,
    WORKER_RESTART_MIN,
    WORKER_STEADY,
    WORKERS_LINGER,
)
from pcapd.net.clock import cancel
from pcapd.net.daemon import Daemon
from pcapd.net.metricspage import metrics_port
from pcapd.net.reactor import ProcessReactor
from pcapd.workers.link import SupervisorEnd, join
from pcapd.workers.page import WorkersPage
from pcapd.workers.worker import LINK, VARIABLE

__all__ = ["Supervisor", "pause_before"]


def pause_before(last: float, ran: float) -> float:
    """Seconds to wait before a worker is started again.

    Args:
        last: The pause before its last start, 0 before the first.
        ran: Seconds for which it ran then.
    """
    if ran >= WORKER_STEADY:
        return WORKER_RESTART_MIN
    return min(WORKER_RESTART_MAX, max(WORKER_RESTART_MIN, 2 * last))


class State(Enum):
    """See the module."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"


class _Slot(ProcessProtocol):
    """A worker's number, and the process that has it now, of which there is at most one.

    Args:
        supervisor: Is told of changes.
        number: The number, from 0.
    """

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self._supervisor = supervisor
        self._reactor = supervisor.process_reactor
        self.number = number
        self.state = State.WAITING
        self.link: SupervisorEnd | None = None
        self._pause = 0.0
        self._started = 0.0
        self._timer: Any = None
        self._process: Any = None

    def start(self) -> None:
        """Start the process."""
        self.state = State.STARTING
        self._started = self._reactor.seconds()
        self.link = SupervisorEnd(self._ready)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            join(self._reactor, ours.fileno(), self.link)
            # Until the worker handles it, a SIGHUP would end it; blocked, it waits.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
            try:
                self._process = self._reactor.spawnProcess(
                    self,
                    sys.executable,
                    self._supervisor.command,
                    {**os.environ, VARIABLE: str(self.number)},
                    childFDs={0: 0, 1: 1, 2: 2, LINK: theirs.fileno()},
                )
            except OSError as error:
                self._over(str(error), drained=False)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def start_later(self) -> float:
        """Start the process again after a pause, and return its seconds."""
        self._pause = pause_before(self._pause, self._reactor.seconds() - self._started)
        self._timer = self._reactor.callLater(self._pause, self.start)
        return self._pause

    def stay_ended(self) -> None:
        """Do not start the process again."""
        cancel(self._timer)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        if self.state is not State.WAITING:
            self._process.signalProcess(int(number))

    def _ready(self) -> None:
        self.state = State.READY
        self._supervisor.ready()

    def processExited(self, reason: Failure) -> None:
        """See `ProcessProtocol`."""
        ended: Any = reason.value
        how = f"signal {ended.signal}" if ended.signal else f"status {ended.exitCode}"
        self._over(how, drained=isinstance(ended, ProcessDone))

    def _over(self, how: str, *, drained: bool) -> None:
        before, self.state = self.state, State.WAITING
        if self.link is not None and self.link.transport is not None:
            self.link.transport.loseConnection()
        # One that did not listen yet had nothing to drain.
        self._supervisor.ended(self, how, ready=before is State.READY, drained=drained)


class Supervisor(Daemon):
    """See the module.

    Args:
        config: The configuration of the api.
        reactor: The reactor.
        reread: Reads the configuration again.
        command: Of a worker, with the name of the program.

    Attributes:
        status: The exit status.
    """

    log = Logger()
    role = "api"
    config: ApiConfig

    def __init__(
        self,
        config: ApiConfig,
        reactor: ProcessReactor,
        reread: Callable[[], ApiConfig],
        command: Sequence[str],
    ) -> None:
        super().__init__(reactor)
        self.process_reactor = reactor
        self.config = config
        self.command = command
        self.status = 0
        self._reread = reread
        self._slots = [_Slot(self, number) for number in range(config.workers)]
        self._unstarted = list(self._slots)
        self._drained: Deferred[None] | None = None
        self._killer: Any = None
        self._registry = CollectorRegistry()
        self._process = CollectorRegistry()
        self._restarts = self._describe()

    def _describe(self) -> Counter:
        ProcessCollector(registry=self._process)
        workers = Gauge("pcapd_workers", "Workers of this api, by state", ["state"], registry=self._registry)
        for state in State:
            workers.labels(state.value).set_function(partial(self._number, state))
        restarts = Counter(
            "pcapd_worker_restarts",
            "Times that a worker was started again",
            ["worker"],
            registry=self._registry,
        )
        for slot in self._slots:
            restarts.labels(str(slot.number))
        return restarts

    def _number(self, state: State) -> int:
        return sum(slot.state is state for slot in self._slots)

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Start the first worker, and listen for Prometheus.

        Raises:
            twisted.internet.error.CannotListenError: A port is in use, or not permitted.
        """
        self._check_port()
        where = self.config.metrics
        if where is not None:
            self.listen(metrics_port(WorkersPage(self._metrics, self._registry), where, self.reactor))
        self.log.info("api starts {workers} workers", workers=len(self._slots))
        self.reactor.callWhenRunning(self._start_next)

    def _check_port(self) -> None:
        """Fail if something listens already: the workers would share the port with it."""
        host, port = self.config.listen.host, self.config.listen.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError as error:
                raise CannotListenError(host, port, error) from error

    def _start_next(self) -> None:
        if self._unstarted and self._drained is None:
            self._unstarted.pop(0).start()

    def ready(self) -> None:
        """Start the workers that were not started yet, because one listens."""
        while self._unstarted and self._drained is None:
            self._start_next()

    def ended(self, slot: _Slot, how: str, *, ready: bool, drained: bool) -> None:
        """Take that a worker has ended.

        Args:
            how: Its exit status, for the log.
            ready: Whether it listened.
            drained: Whether the status is 0.
        """
        if self._drained is not None:
            if ready and not drained:
                self.status = 1
                self.log.error("worker {number} has not drained: {how}", number=slot.number, how=how)
            self._fire_when_drained()
        elif not (ready or self._number(State.READY)):
            self.status = 1
            self.log.error("worker {number} did not start: {how}", number=slot.number, how=how)
            self.reactor.stop()
        else:
            self._restarts.labels(str(slot.number)).inc()
            pause = slot.start_later()
            self.log.error(
                "worker {number} has ended: {how}; it is started again in {pause} s",
                number=slot.number,
                how=how,
                pause=pause,
            )

    def prepare(self) -> Callable[[], None]:
        """Read the configuration again, and let the workers do the same."""
        new = self._reread()

        def use() -> None:
            self.config = replace(self.config, drain_timeout=new.drain_timeout)
            self._signal(signal.SIGHUP)

        return use

    def drain(self) -> Deferred[Any]:
        """Let all workers drain; one that takes longer than it may is killed."""
        drained = self._drained = Deferred()
        for slot in self._slots:
            slot.stay_ended()
        self._signal(signal.SIGTERM)
        within = self.config.drain_timeout + WORKERS_LINGER
        self._killer = self.reactor.callLater(within, self._signal, signal.SIGKILL)
        self._fire_when_drained()
        return drained

    def _signal(self, number: signal.Signals) -> None:
        for slot in self._slots:
            slot.signal(number)

    def _fire_when_drained(self) -> None:
        if self._drained is not None and self._number(State.WAITING) == len(self._slots):
            cancel(self._killer)
            self._drained.callback(None)

    # --- metrics -----------------------------------------------------------

    def _metrics(self) -> Deferred[Mapping[str, str]]:
        """The texts of the workers that answer in time, and of this process."""
        asked = {
            str(slot.number): slot.link.metrics().addTimeout(
                METRICS_TIMEOUT, self.reactor, onTimeoutCancel=lambda *_: ""
            )
            for slot in self._slots
            if slot.state is State.READY and slot.link is not None
        }
        all_of_them: Deferred[Any] = DeferredList(list(asked.values()), consumeErrors=True)
        return all_of_them.addCallback(self._texts, list(asked))

    def _texts(self, answers: list[tuple[bool, str]], workers: list[str]) -> Mapping[str, str]:
        texts = {worker: text for worker, (_, text) in zip(workers, answers) if text}
        return {**texts, "supervisor": generate_latest(self._process).decode()}
