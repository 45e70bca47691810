"""Metrics of an agent for Prometheus: numbers, without names of users or targets."""

from __future__ import annotations

from collections.abc import Callable

from pcapd.config.schema import CaptureConfig
from pcapd.net.metrics import DaemonMetrics
from pcapd.wire import Stats

__all__ = ["AgentMetrics"]


class AgentMetrics(DaemonMetrics):
    """The agent's metrics, in a registry of its own.

    Each request to capture is counted in `requested`, and later once in `refused` or `ended`.
    """

    def __init__(self) -> None:
        super().__init__("pcapd_agent")
        self._active = self._gauge("captures_active", "Captures that run, start or end now")
        self.requested = self._counter("captures_requested", "Requests of apis to capture")
        self.refused = self._counter("captures_refused", "Requests that were refused, by cause", "code")
        self.ended = self._counter("captures_ended", "Captures that ended, by reason", "reason")
        self.bytes = self._counter("packet_bytes", "Bytes of records that were read")
        self.without_start = self._counter(
            "connections_without_start", "Connections that ended before a request, also of unknown peers"
        )
        self._packets = self._counter("packets", "Packets that were read")
        self._dropped = self._counter("packets_dropped", "Packets that were lost, by place", "place")
        self._excluded = self._counter("packets_excluded", "Packets of detected loops, which were left out")

    def active(self, read: Callable[[], int]) -> None:
        """Show the number of captures that count against the agent's limit."""
        self._active.set_function(read)

    def limits(self, read: Callable[[], CaptureConfig]) -> None:
        """Show the limits.

        Args:
            read: Returns the present settings.
        """
        self.limit("captures", "Captures at once", lambda: read().max_captures)
        self.limit("ring_bytes", "The kernel's ring of each captured interface", lambda: read().ring_bytes)

    def counted(self, before: Stats, now: Stats) -> None:
        """Add what a source has counted.

        Args:
            before: The source's counters at the last call.
        """
        self._packets.inc(max(0, now.delivered - before.delivered))
        self._excluded.inc(max(0, now.excluded - before.excluded))
        for place, grown in (
            ("interface", now.dropped_interface - before.dropped_interface),
            ("kernel", now.dropped_kernel - before.dropped_kernel),
            ("agent", now.dropped_agent - before.dropped_agent),
        ):
            self._dropped.labels(place).inc(max(0, grown))
