"""The metrics of several workers on one page."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import generate_latest

from pcapd.workers.page import labelled


def text(count: int) -> str:
    """The metrics of a process."""
    registry = CollectorRegistry()
    Counter("packets", "Packets", registry=registry).inc(count)
    Gauge("limit", "A limit", ["name"], registry=registry).labels("a").set(count)
    Histogram("lag_seconds", "Lag", buckets=(1.0,), registry=registry).observe(0.5)
    return generate_latest(registry).decode()


def test_each_sample_has_its_worker() -> None:
    """Metrics of one name are joined, and every sample has the label of its process besides its own."""
    metrics = {metric.name: metric for metric in labelled({"0": text(3), "1": text(4)})}
    assert set(metrics) == {"packets", "limit", "lag_seconds"}
    totals = [sample for sample in metrics["packets"].samples if sample.name == "packets_total"]
    assert [(sample.labels, sample.value) for sample in totals] == [
        ({"worker": "0"}, 3),
        ({"worker": "1"}, 4),
    ]
    assert metrics["limit"].samples[1].labels == {"name": "a", "worker": "1"}
    buckets = [sample for sample in metrics["lag_seconds"].samples if sample.name == "lag_seconds_bucket"]
    assert len(buckets) == 4 and metrics["lag_seconds"].type == "histogram"


def test_what_is_no_text() -> None:
    """A process that sends something else is an error, not a wrong page."""
    with pytest.raises(ValueError, match="EOF"):
        labelled({"0": "packets_total 3\n"})
