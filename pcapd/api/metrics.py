"""Metrics for Prometheus: numbers, without names of users or targets."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder

from pcapd.api.http.web import NotFoundResource, Page

__all__ = ["Metrics"]


class Metrics:
    """The api's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.captures_active = self._gauge("pcapd_captures_active", "Captures that run now")
        self.captures_started = self._counter("pcapd_captures_started", "Captures that were started")
        self.captures_refused = self._counter(
            "pcapd_captures_refused", "Requests that were refused, by cause", "code"
        )
        self.captures_ended = self._counter(
            "pcapd_captures_ended", "Captures that ended, by reason", "reason"
        )
        self.packets = self._counter("pcapd_packets", "Packets that agents delivered")
        self.bytes = self._counter("pcapd_packet_bytes", "Bytes of records that agents delivered")
        self.dropped = self._counter("pcapd_packets_dropped", "Packets that were lost, by place", "place")
        self.agents_failed = self._counter("pcapd_agents_failed", "Targets that failed, by cause", "code")
        self.audit_failures = self._counter(
            "pcapd_audit_failures", "Times that the audit log could not be written"
        )

    def pages(self) -> NotFoundResource:
        """The pages of the listener for metrics: ``GET /metrics``."""
        root = NotFoundResource("use /metrics")
        root.putChild(b"metrics", _MetricsPage(self.registry))
        return root

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Any:
        return Gauge(name, text, registry=self.registry)


class _MetricsPage(Page):
    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def render_GET(self, request: Any) -> bytes:
        """Answer with the metrics in the requested format."""
        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        request.setHeader("Content-Type", content_type)
        body: bytes = encode(self._registry)
        return body
