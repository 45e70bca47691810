"""The listener for Prometheus.  It has its own module because it imports Twisted's web server (3 MB)."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pcapd.config.schema import MetricsConfig
from pcapd.net.httpserver import HttpSite
from pcapd.net.pages import NotFoundResource, Page
from pcapd.net.ports import BoundedPort
from pcapd.net.reactor import Reactor

__all__ = ["MetricsPage", "metrics_port"]


def metrics_port(page: Page, where: MetricsConfig, reactor: Reactor) -> BoundedPort:
    """Make the port that serves a page as ``/metrics``; the caller starts and stops it."""
    root = NotFoundResource("use /metrics")
    root.putChild(b"metrics", page)
    return BoundedPort(where.port, HttpSite(root, reactor), interface=where.host, reactor=reactor)


class MetricsPage(Page):
    """The metrics of a registry."""

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
