"""Reads a daemon's metrics, as Prometheus does."""

from __future__ import annotations

import urllib.request

from demo.daemons import Daemon

__all__ = ["page", "samples"]


def page(daemon: Daemon) -> str:
    """What a daemon serves at ``/metrics``."""
    where = daemon.config["metrics"]
    with urllib.request.urlopen(f"http://{where['host']}:{where['port']}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def samples(daemon: Daemon) -> dict[str, float]:
    """Values by name and labels, as in ``pcapd_captures_ended_total{reason="stopped"}``."""
    lines = [line for line in page(daemon).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
