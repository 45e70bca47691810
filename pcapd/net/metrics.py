"""Metrics for Prometheus that both roles have: numbers, without names of users or targets.

A role extends `DaemonMetrics` with its own.  Values that exist anyway, such as a limit, are read
when Prometheus asks for them; the others are counted as they occur, never for each packet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector
from twisted.internet.interfaces import IReactorTime

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.limits import LAG_INTERVAL
from pcapd.net.clock import cancel
from pcapd.net.tls import CertificateHolder

__all__ = ["DaemonMetrics", "LagMeter"]

_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FIRST_PACKET_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class DaemonMetrics:
    """The metrics of a daemon, in a registry of their own.

    Args:
        prefix: Begins the names of the role's own metrics.
    """

    def __init__(self, prefix: str) -> None:
        self.registry = CollectorRegistry()
        # Memory, processor time, and open and allowed descriptors of this process.
        ProcessCollector(registry=self.registry)
        self._prefix = prefix
        self._build = Gauge(
            "pcapd_build_info",
            "Always 1; the labels describe the program",
            ["role", "version", "compatibility_level", "libpcap"],
            registry=self.registry,
        )
        self._certificates = Gauge(
            "pcapd_certificate_expiry_timestamp_seconds",
            "When the first certificate of a chain of this daemon expires, by section of the configuration",
            ["section"],
            registry=self.registry,
        )
        self._waiting = Gauge(
            "pcapd_send_buffer_bytes",
            "Bytes that wait to be sent, on all connections that this daemon accepted",
            registry=self.registry,
        )
        self.lag = Histogram(
            "pcapd_reactor_lag_seconds",
            "How late a timer ran that is due once a second",
            buckets=_LAG_BUCKETS,
            registry=self.registry,
        )
        self.first_packet = Histogram(
            f"{prefix}_first_packet_seconds",
            "Time from the start of a capture to its first packet; captures without packets do not count",
            buckets=_FIRST_PACKET_BUCKETS,
            registry=self.registry,
        )

    def describe(self, role: str, libpcap: str = "") -> None:
        """Say which program this is.

        Args:
            libpcap: The version of libpcap; empty for a role that does not use it.
        """
        self._build.labels(role, __version__, str(COMPATIBILITY_LEVEL), libpcap).set(1)

    def certificate(self, section: str, holder: CertificateHolder) -> None:
        """Show when a certificate expires, also after it is renewed.

        Args:
            section: Section of the configuration that names it.
        """
        self._certificates.labels(section).set_function(lambda: holder.expires)

    def waiting(self, read: Callable[[], int]) -> None:
        """Show the number of bytes that wait to be sent."""
        self._waiting.set_function(read)

    def limit(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show a limit of the configuration, as it is at the time.

        Args:
            name: The limit, with its unit at the end.
            text: What it limits.
        """
        self._gauge(f"limit_{name}", text).set_function(read)

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return Counter(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return Gauge(f"{self._prefix}_{name}", text, labels, registry=self.registry)


class LagMeter:
    """Measures how late the reactor runs timers: with more work than it can do, or after a pause.

    Args:
        reactor: The reactor.
        observe: Called every `limits.LAG_INTERVAL` with the lag in seconds.
    """

    def __init__(self, reactor: IReactorTime, observe: Callable[[float], None]) -> None:
        self._reactor = reactor
        self._observe = observe
        self._timer: Any = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._reactor.seconds() + LAG_INTERVAL
        self._timer = self._reactor.callLater(LAG_INTERVAL, self._measure)

    def stop(self) -> None:
        """End."""
        cancel(self._timer)

    def _measure(self) -> None:
        self._observe(max(0.0, self._reactor.seconds() - self._due))
        self.start()
