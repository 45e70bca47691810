"""``GET /metrics`` of all workers: each sample with the label ``worker``, and the supervisor's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR
from twisted.web.server import NOT_DONE_YET

from pcapd.net.pages import Page

__all__ = ["WorkersPage", "labelled"]


def labelled(texts: Mapping[str, str]) -> list[Metric]:
    """Join the metrics of several processes.

    Args:
        texts: OpenMetrics text of each process, by the value of its label ``worker``.

    Raises:
        ValueError: A text is not OpenMetrics.
    """
    found: dict[str, Metric] = {}
    for worker, text in texts.items():
        for family in text_string_to_metric_families(text):
            metric = found.setdefault(
                family.name, Metric(family.name, family.documentation, family.type, family.unit)
            )
            metric.samples += [
                sample._replace(labels={**sample.labels, "worker": worker}) for sample in family.samples
            ]
    return list(found.values())


class WorkersPage(Page):
    """The page.

    Args:
        ask: Fires with the text of each process that answered, by the value of its label.
        own: Metrics that get no label.
    """

    isLeaf = True
    log = Logger()

    def __init__(self, ask: Callable[[], Deferred[Mapping[str, str]]], own: CollectorRegistry) -> None:
        super().__init__()
        self._ask = ask
        self._own = own

    def render_GET(self, request: Any) -> int:
        """Answer when the workers have answered."""
        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        request.setHeader("Content-Type", content_type)
        asked = self._ask()
        request.notifyFinish().addErrback(lambda _: asked.cancel())
        answered = asked.addCallback(lambda texts: _finish(request, encode(self._registry(texts))))
        answered.addErrback(self._failed, request)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Any) -> None:
        if failure.check(CancelledError):  # the client has left
            return
        self.log.failure("metrics of workers failed", failure)
        request.setResponseCode(INTERNAL_SERVER_ERROR)
        _finish(request, b"")

    def _registry(self, texts: Mapping[str, str]) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Found([*self._own.collect(), *labelled(texts)]))
        return registry


def _finish(request: Any, body: bytes) -> None:
    request.write(body)
    request.finish()


class _Found(Collector):
    """Metrics that were collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self._metrics
