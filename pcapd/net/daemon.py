"""The base of agent and api: a service that listens, reloads and drains.

If a port is in use, the daemon stops (`StreamServerEndpointService` would only log the
error).  SIGHUP reloads.  To drain means to refuse new captures and to end the running ones;
the daemon does this for a limited time before it stops.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from pcapd.config.schema import MetricsConfig
from pcapd.errors import ConfigError
from pcapd.net.metrics import DaemonMetrics, LagMeter
from pcapd.net.reactor import Reactor

__all__ = ["Daemon", "effective_capabilities"]


class Daemon(Service):
    """The base of agent and api.

    Args:
        reactor: Twisted's reactor.
    """

    log = Logger()
    role = ""
    config: Any

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.ports: list[Any] = []
        #: Called after the daemon has started to listen and changed its user; set by its creator.
        self.harden: Callable[[], None] = lambda: None
        #: Serves metrics instead of a port; set by the creator of a worker.
        self.serve_registry: Callable[[CollectorRegistry], None] | None = None
        self._lag_meter: LagMeter | None = None

    # --- for subclasses ----------------------------------------------------

    def start(self) -> None:
        """Start to serve."""

    def prepare(self) -> Callable[[], None]:
        """Read the files that may change while the daemon runs, without using them yet.

        Returns:
            A function that starts to use them; it does not fail.

        Raises:
            ConfigError: A file cannot be used; the present values stay in use.
        """
        return lambda: None

    def drain(self) -> Deferred[Any]:
        """Refuse new captures and end the running ones; fires when done."""
        raise NotImplementedError

    # --- Service -----------------------------------------------------------

    def startService(self) -> None:
        """Start; an exception stops the daemon with exit code 1."""
        super().startService()
        _raise_file_limit()
        for warning in self.config.warnings:
            self.log.warn("{warning}", warning=warning)
        self.start()
        self.harden()
        # signal.signal works only in the main thread; twistd and pcapd call this method there.
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self.reload))
        # `main` and `tap` have blocked SIGHUP; if it was sent since then, the daemon reloads now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def stopService(self) -> Deferred[Any]:
        """Drain, then stop listening."""
        super().stopService()
        self.log.info("{role} drains", role=self.role)
        if self._lag_meter is not None:
            self._lag_meter.stop()
        return self.drain().addBoth(self._stop_listening)

    def listen(self, port: Any) -> None:
        """Listen on a port until the service stops.

        Raises:
            twisted.internet.error.CannotListenError: The port is in use, or not permitted.
        """
        port.startListening()
        self.ports.append(port)

    def serve_metrics(self, metrics: DaemonMetrics, where: MetricsConfig | None) -> None:
        """Serve metrics until the service stops.

        Args:
            where: The address; None to serve none.

        Raises:
            twisted.internet.error.CannotListenError: The port is in use, or not permitted.
        """
        if where is None:
            return
        served = list(self.ports)
        metrics.waiting(lambda: sum(port.waiting for port in served))
        self._lag_meter = LagMeter(self.reactor, metrics.lag.observe)
        self._lag_meter.start()
        if self.serve_registry is not None:
            self.serve_registry(metrics.registry)
            return
        # Only if it is wanted: 3 MB.
        from pcapd.net.metricspage import MetricsPage, metrics_port  # noqa: PLC0415

        self.listen(metrics_port(MetricsPage(metrics.registry), where, self.reactor))

    def _stop_listening(self, _: Any) -> Any:
        return DeferredList([maybeDeferred(port.stopListening) for port in self.ports])

    def reload(self) -> None:
        """Reload certificates and limits; if a file cannot be used, change nothing."""
        try:
            use = self.prepare()
        except ConfigError as error:
            self.log.error(
                "not reloaded, the old certificates and limits stay in use: {problem}", problem=str(error)
            )
            return
        use()
        self.log.info("{role} reloaded its certificates and limits", role=self.role)


def _raise_file_limit() -> None:
    """Raise the limit of descriptors to its maximum: each target needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def effective_capabilities() -> int:
    """The calling thread's effective capabilities: bit N is capability number N (capabilities(7))."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0
