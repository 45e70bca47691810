"""etc/prometheus and etc/grafana: Prometheus's own tools accept them, and each alert has its advice.

tests/hosts/test_metrics.py checks that the metrics in them exist.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from demo.processes import ROOT, run
from tests.kit.lab.readers import require
from tests.kit.monitoring import RULES, alerts, panels, queries

TESTS = Path(__file__).parent / "prometheus" / "pcapd.rules.test.yml"


def test_prometheus_accepts_the_rules() -> None:
    """promtool finds no mistake in the alerts."""
    require("promtool")
    assert f"SUCCESS: {len(alerts())} rules found" in run(["promtool", "check", "rules", str(RULES)]).stdout


def test_alerts_fire_when_they_should() -> None:
    """Each alert fires for its trouble, with its text, and none for daemons that are well."""
    require("promtool")
    assert "SUCCESS" in run(["promtool", "test", "rules", str(TESTS)]).stdout
    checked = [
        (case["alertname"], bool(case.get("exp_alerts")))
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {alert["alert"] for alert in alerts()}
    assert (
        {name for name, fires in checked if fires} == names == {name for name, fires in checked if not fires}
    )


def test_each_alert_has_its_advice() -> None:
    """docs/operations.rst says for each alert what to do, and an alert refers to it."""
    page = (ROOT / "docs" / "operations.rst").read_text()
    section = re.split(r"^[-~]+$", page.partition("\nAlerts\n")[2], maxsplit=2, flags=re.MULTILINE)[1]
    described = set(re.findall(r"``(Pcapd\w+)``", section))
    assert {alert["alert"] for alert in alerts()} == described
    for alert in alerts():
        page_of_it, _, name = alert["annotations"]["runbook"].partition(", ")
        assert page_of_it == "docs/operations.rst" and name in described


@pytest.mark.parametrize("name", ["capacity", "incidents", "upgrade", "privacy", "security"])
def test_other_pages_name_what_exists(name: str) -> None:
    """The alerts that a page names are in the rules, and its metrics are described in docs/operations.rst."""
    page = (ROOT / "docs" / f"{name}.rst").read_text()
    assert set(re.findall(r"``(Pcapd\w+)``", page)) <= {alert["alert"] for alert in alerts()}
    described = re.findall(r"\bpcapd_[a-z_]+", (ROOT / "docs" / "operations.rst").read_text())
    assert {metric.rstrip("_") for metric in re.findall(r"\bpcapd_[a-z_]+", page)} <= {
        *described,
        "pcapd_limit",
        "pcapd_agent_limit",
    }


def test_prometheus_accepts_the_dashboards_queries(tmp_path: Path) -> None:
    """Each query of the dashboard is an expression of Prometheus."""
    require("promtool")
    rules = [{"record": f"panel:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(["promtool", "check", "rules", str(path)])


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_can_be_drawn(panel: dict[str, object]) -> None:
    """A panel has a place of its own on the grid of 24 columns, and its queries use the chosen data source."""
    assert isinstance(panel["gridPos"], dict) and isinstance(panel["targets"], list)
    cells = {name: int(panel["gridPos"][name]) for name in "xywh"}
    assert cells["x"] + cells["w"] <= 24
    for other in panels():
        place = other["gridPos"]
        apart = (
            cells["x"] >= place["x"] + place["w"] or place["x"] >= cells["x"] + cells["w"]
            or cells["y"] >= place["y"] + place["h"] or place["y"] >= cells["y"] + cells["h"]
        )  # fmt: skip
        assert apart or other["id"] == panel["id"], other["title"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
