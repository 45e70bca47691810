"""The files for Prometheus and Grafana: their queries, and what these name."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator

import yaml

from demo.processes import ROOT

__all__ = ["DASHBOARD", "RULES", "alerts", "labels", "metrics", "panels", "queries"]

DASHBOARD = ROOT / "etc" / "grafana" / "pcapd.json"
RULES = ROOT / "etc" / "prometheus" / "pcapd.rules.yml"


def alerts() -> list[dict[str, Any]]:
    """All alerts of the rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, without the rows that hold them together."""
    found = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Each place with a query, and the query with values in place of the dashboard's variables."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m")
            yield panel["title"], re.sub(r"\$(job|instance)", ".*", query)


def metrics(query: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\b(?:pcapd|process)_\w+", query))


def labels(query: str) -> set[str]:
    """The labels that a query selects or groups by."""
    named = set(re.findall(r"(\w+)=~?\"", query))
    for group in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", query):
        named |= {name.strip() for name in group.split(",")}
    return named
