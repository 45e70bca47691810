"""``bin/capacity``: its formulas agree with what was measured, and docs/capacity.rst with the program."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "capacity.rst"


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    """The names of the program."""
    return runpy.run_path(str(ROOT / "bin" / "capacity"))


@pytest.mark.parametrize(
    ("load", "api", "agent"),
    [
        # docs/performance.rst, "Loss and CPU": packets per second × nanoseconds per packet.
        ((1, 1, 100_000, 100, 1), 0.0562, 0.0525),
        ((1, 1, 400_000, 100, 1), 0.1236, 0.1024),
        ((1, 1, 10_000, 1400, 1), 0.0587, 0.0500),
        ((1, 1, 150_000, 1400, 1), 0.3038, 0.2325),
        # docs/reliability.rst, "Many captures at once": seconds of CPU in 5 s.
        ((50, 1, 1000, 100, 1), 2.5 / 5, 2.3 / 5),
        # docs/performance.rst, "Fan-in": 10 agents or more, whose api alone is real.
        ((1, 10, 200, 100, 10), 0.11, None),
        ((1, 50, 200, 100, 50), 0.29, None),
        ((1, 100, 20, 100, 100), 0.13, None),
        ((1, 100, 200, 100, 100), 0.66, None),
        ((1, 100, 1000, 100, 100), 0.75, None),
    ],
)
def test_costs(program: dict[str, Any], load: tuple[float, ...], api: float, agent: float | None) -> None:
    """Computed processor time is what was measured, within four tenths."""
    computed = program["Load"](*load)
    assert computed.api_cores() == pytest.approx(api, rel=0.4)
    if agent is not None:
        assert computed.agent_cores() == pytest.approx(agent, rel=0.4)


def test_arithmetic(program: dict[str, Any]) -> None:
    """A load computed by hand: 4 captures of 3 instances on 5 agents, 1,000 packets of 500 bytes per second."""
    load = program["Load"](4, 3, 1000, 500, 5)
    assert (load.sources, load.batches, load.on_busiest_cell()) == (12, 250, 3)
    # 31 ms, and for each source 0.25 ms, 250 batches of 36 µs, 1,000 packets of 0.11 µs + 500 bytes of 1.2 ns.
    assert load.api_cores() == pytest.approx(0.031 + 12 * (0.00025 + 0.009 + 0.00011 + 0.0006))
    assert load.agent_cores() == pytest.approx(0.027 + 3 * (0.00025 + 0.009 + 0.00008 + 0.00045))
    assert load.api_memory() == pytest.approx((57 + 1.6, 57 + 18 + 4))
    assert load.agent_memory() == 52 + 3 * 17
    # 250 batches of 100 bytes, 3,000 bytes of counters, 1,000 packets of 516 bytes and 5 percent.
    assert load.api_network() == pytest.approx(12 * (25_000 + 3_000 + 541_800) * 8 / 1e6)


def test_the_page(program: dict[str, Any]) -> None:
    """The table of the page is the program's, and its formulas have the program's constants."""
    text = PAGE.read_text()
    assert program["page"](text) == text, "run bin/capacity --table"
    for role, costs in (("api", program["API"]), ("agent", program["AGENT"])):
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"{role} cores "))
        formula = (
            f"{costs.busy:.3f} + sources × {1e3 * costs.source:g} ms + batches × {1e6 * costs.batch:g} µs"
            f" + packets/s × {1e6 * costs.packet:g} µs + bytes/s × {1e9 * costs.byte:g} ns"
        )
        assert line.endswith(f"= {formula}")


def test_own_numbers() -> None:
    """The command computes the load that it is given, and says when one api is not enough."""
    command = [sys.executable, str(ROOT / "bin" / "capacity"), "--captures", "2", "--instances", "500"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Sources      1,000\nPackets      1,000,000\n" in done.stdout
    assert "One api uses one core at most" in done.stdout
