"""Under load: many captures, many agents, minutes, unequal clients.

The figures of docs/reliability.rst come from the same functions, with larger arguments (``bin/bench``).
"""

from __future__ import annotations

import os

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

from tests.benchmarks import clients, fanin, recordings, soak

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="captures and namespaces need root"),
]

#: MiB that a process may grow by between the first and the last seconds of a short soak: a leak of four
#: bytes per packet shows as more.
GROWTH = 2.0


def test_fifty_captures_at_once() -> None:
    """Each of fifty captures has or counts every packet; one more is refused in words; no descriptor stays.

    That nothing is lost is the benchmark's matter: here other tests take the processors.
    """
    row = clients.concurrent(50, 200, 3.0, downloads=40)
    print(row["text"])
    assert (row["captures"], row["sent"]) == (50, 600)
    assert row["excess"] == 0 and set(row["exit_statuses"]) <= {0, 3}
    assert "50 captures" in row["refused"]
    assert row["leaked_descriptors"] == {"agent": 0, "api": 0}


def test_one_capture_over_a_hundred_agents() -> None:
    """A capture over a hundred agents has every packet of each."""
    row = fanin.measure(100, rate=100, seconds=2.0)
    print(row["text"])
    assert (row["sources"], row["sent"]) == (100, 100 * 100 * 2)
    assert row["lost"] == 0


def test_a_short_soak() -> None:
    """Agent, api and pcapctl are as large at the end as after warming up; all is accounted for."""
    row = soak.measure(20.0, rate=50_000, interval=0.25)
    print(row["text"])
    assert row["sent"] >= 500_000, "half of it: other tests take the processors"
    assert row["excess"] == 0
    for name, growth in row["growth_mib"].items():
        assert growth < GROWTH, f"{name}: {growth:.1f} MiB"
    assert set(row["more_handles"].values()) == {0}


def test_a_slow_client_beside_a_fast_one() -> None:
    """A slow client's losses are in its report, to the packet, and not in the fast one's.

    That the fast one loses nothing is the benchmark's matter: here other tests take the processors.
    """
    row = clients.beside(1400, 10_000, 5.0)
    print(row["text"])
    assert row["fast_lost"] == row["fast_dropped"] < row["slow_lost"] / 2
    assert row["slow_lost"] == row["slow_dropped"]
    assert (row["fast_excess"], row["slow_excess"], row["slow_status"]) == (0, 0, 3)


def test_twenty_recordings_beside_twenty_captures() -> None:
    """Each of twenty recordings has or counts every packet, and so has each capture beside them.

    That nothing is lost is the benchmark's matter: here other tests take the processors.
    """
    pytest.importorskip("obstore", reason="the packages of recordings are not installed")
    row = recordings.beside(20, 1_000, 3.0)
    print(row["text"])
    assert row["count"] == 20 and row["sent"] > 1_000
    assert row["unexplained"] == {"recordings": 0, "captures": 0}


def test_memory_of_a_fetch() -> None:
    """A fetch of many segments takes as much memory as one of few, in pcapctl and in the api."""
    pytest.importorskip("obstore", reason="the packages of recordings are not installed")
    few, many = (recordings.fetch(megabytes, runs=1) for megabytes in (32, 256))
    print(many["text"])
    assert many["pcapctl"]["client_rss_mib"] < few["pcapctl"]["client_rss_mib"] + 8
    assert many["pcapctl"]["api_rss_mib"] < few["pcapctl"]["api_rss_mib"] + 32
