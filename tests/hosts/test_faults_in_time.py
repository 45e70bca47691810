"""What only time brings: clocks that are set, certificates that expire, captures that come and go for ever."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Iterator

import pytest

from demo.certificates import Credentials
from demo.daemons import Daemon, environment
from demo.processes import ROOT, wait_until
from tests.kit.hosts.chain import assert_accounted
from tests.kit.hosts.faults import (
    CELLS,
    PORT,
    SOURCES,
    Plant,
    Stopwatch,
    assert_complete,
    assert_readable,
    assert_success,
)
from tests.kit.lab.readers import require

pytestmark = pytest.mark.long

HOUR = 3600.0


@pytest.fixture(scope="module")
def plant_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """The machines, for all tests."""
    require("tshark", "capinfos", "tcpdump")
    with Plant(tmp_path_factory.mktemp("faults")) as plant:
        yield plant


@pytest.fixture
def plant(plant_of_module: Plant) -> Iterator[Plant]:
    """The machines, with nothing broken and nothing captured."""
    wait_until(plant_of_module.idle, "earlier captures are gone", timeout=20)
    yield plant_of_module
    plant_of_module.repair()


# --- clocks -----------------------------------------------------------------------


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "back"])
def test_clocks_are_set(plant: Plant, step: float) -> None:
    """After all clocks jump, no agent is given up, no packet is lost, and the duration is as requested."""
    seconds = 4.0
    with plant.traffic():
        client = plant.begin(*CELLS, "--duration", f"{seconds:g}s")
        client.wait_for(*SOURCES, packets=300)
        # Here it is the api that counts the seconds.
        watch = Stopwatch()
        curl = plant.curl(f"target=cell-0&device=wire0&duration={seconds:g}")
        time.sleep(1)
        for clock in plant.clocks.values():
            clock.step(step)
        result = client.wait(timeout=30)
        assert curl.wait(30) == 0
        assert seconds <= watch.seconds < seconds + 3
    assert_success(result)
    assert result.report["reason"] == f"{seconds:g} s are over"
    assert seconds <= result.report["seconds"] < seconds + 2
    assert not result.notices
    for source in SOURCES:
        assert_complete(result, source)
        assert result.sources[source]["written"] > 1000 * (seconds - 1)
    # The kernel's stamps are not stepped here: cell-1 promises what it cannot keep, an hour ahead.
    late = sum(source["late"] for source in result.report["sources"])
    assert_readable(result.path, ordered=not late)
    ended = datetime.fromisoformat(plant.api.records()[-1]["time"])
    off = (ended - datetime.now(timezone.utc)).total_seconds()
    assert abs(off - step) < 60, "the clock was not set"


# --- certificates -----------------------------------------------------------------


def renew(daemon: Daemon, credentials: Credentials) -> None:
    """Put another certificate in the place of a daemon's, and tell it."""
    tls = daemon.config["listen"]["tls"]
    reloads = daemon.log().count("reloaded")
    Path(tls["certificate"]).write_bytes(credentials.certificate.read_bytes())
    Path(tls["private_key"]).write_bytes(credentials.private_key.read_bytes())
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.log().count("reloaded") > reloads, "it has reloaded")


def test_certificates_expire_during_a_capture(plant: Plant) -> None:
    """A certificate that expires ends no capture; new captures are refused until SIGHUP loads a renewed one."""
    soon = datetime.now(timezone.utc) + timedelta(seconds=6)
    cell = plant.agents["cell-1"]
    renew(plant.api, plant.api_credentials("short-api", not_after=soon))
    renew(cell, plant.agent_credentials("short-cell", not_after=soon))
    with plant.traffic():
        client = plant.begin(*CELLS)
        client.wait_for(*SOURCES, packets=100)
        left = soon - datetime.now(timezone.utc) + timedelta(seconds=1)
        assert left.total_seconds() > 1, "it expired too early for this test"
        time.sleep(left.total_seconds())

        refused = plant.capture(*CELLS, "--duration", "300ms")
        assert refused.status == 1
        assert "certificate of 10.97.0.1 is not accepted" in refused.stderr and "expired" in refused.stderr

        renew(plant.api, plant.api_credentials("new-api"))
        half = plant.capture(*CELLS, "--duration", "300ms")
        assert half.status == 3, half.stderr
        (notice,) = half.notices
        assert (notice["type"], notice["origin"]) == ("START_CAPTURE_FAILED", "cell-1")
        assert "10.97.0.3:9494" in notice["message"] and "expired" in notice["message"]
        assert_complete(half, SOURCES[0])

        renew(cell, plant.agent_credentials("new-cell"))
        whole = plant.capture(*CELLS, "--duration", "300ms")
        assert_success(whole)

        client.wait_for(*SOURCES, packets=client.packets()[SOURCES[1]] + 500)
        result = client.stop()
    assert_success(result)
    assert not result.notices
    for source in SOURCES:
        assert_complete(result, source)
    assert_readable(result.path)


# --- captures at random -------------------------------------------------------------

#: Captures of `tests.kit.lab.aborter`, and of pcapctl processes that are killed.
ABORTED, KILLED = 88, 12


def test_a_hundred_captures_aborted_at_random(plant: Plant) -> None:
    """Clients that leave at random leave no descriptor, thread, packet socket or promiscuous interface behind."""
    seed = int(os.environ.get("PCAPD_FAULTS_SEED", "0")) or random.randrange(1, 2**31)
    print(f"\nPCAPD_FAULTS_SEED={seed}")
    chance = random.Random(seed)
    assert plant.capture(*CELLS, "--duration", "200ms").status == 0
    wait_until(plant.idle, "the first capture is gone")
    before = plant.usage()
    ended = len(plant.audit())
    with plant.traffic():
        other = plant.begin(*CELLS, machine="api")
        other.wait_for(*SOURCES)
        assert all(count > 0 for cell in CELLS for count in plant.held(cell).values()), "it is not counted"
        aborters = plant.machines["desk"].popen(
            *(sys.executable, "-m", "tests.kit.lab.aborter", f"https://{plant.addresses['api']}:{PORT}"),
            *(str(plant.authority.certificate_path), str(seed), str(ABORTED), *CELLS),
            cwd=ROOT,
            env=environment(PCAP_TOKEN=plant.token),
            stdout=-1,
            text=True,
        )
        for _ in range(KILLED):
            client = plant.begin(*CELLS)
            time.sleep(chance.uniform(0.2, 1.2))
            client.signal(signal.SIGKILL)
            client.process.wait()
        left = json.loads(aborters.communicate(timeout=120)[0])
        undisturbed = other.stop()
    print(left)
    assert aborters.returncode == 0 and sum(left.values()) == ABORTED
    wait_until(plant.idle, "no packet socket and no promiscuous interface is left")

    def back() -> bool:
        now = plant.usage()
        return all(now[name][0] <= before[name][0] and now[name][1] <= before[name][1] for name in before)

    wait_until(back, f"descriptors and threads are back to {before}")
    started = [record for record in plant.api.records() if record.get("audit") == "capture_started"]
    assert len(started) == len(plant.audit()) > ended + ABORTED / 2, "a capture has no end in the audit log"
    # Rings are made and taken down all the time: it may lose packets, but it counts each.
    assert not undisturbed.notices
    assert_accounted(undisturbed)
    for source in SOURCES:
        assert len(undisturbed.file.of(source)) == undisturbed.sources[source]["written"] > 1000
    for daemon in (*plant.agents.values(), plant.api):
        assert not [record for record in daemon.records() if record["level"] in ("error", "critical")]
