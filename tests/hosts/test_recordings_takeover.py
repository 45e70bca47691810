"""Recordings over several apis: what one does not record any longer, another one does, and no packet is there twice.

Real leases, a real PostgreSQL, a real bucket, nginx, and agents; the generator's sequence numbers tell what is
missing and what is there twice.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from demo.processes import wait_until
from pcapd.limits import LEASE
from tests.kit.hosts.chain import SaveFile
from tests.kit.hosts.recordings import RATE, RecordingLab, assert_one_of_each
from tests.kit.hosts.takeover import LIMITS, SeveralApis, several_apis
from tests.kit.lab.generator import Generator, stamp

pytestmark = pytest.mark.long
pytest.importorskip("obstore", reason="obstore is not installed")


@pytest.fixture(scope="module")
def lab_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeveralApis]:
    """Three apis, and all that they need."""
    with several_apis(tmp_path_factory.mktemp("several"), 3) as lab:
        yield lab


@pytest.fixture
def lab(lab_of_module: SeveralApis) -> Iterator[SeveralApis]:
    """All apis run, there are no recordings, and packets flow."""
    lab = lab_of_module
    with Generator(lab.link, rate=RATE, size=200):
        yield lab
    for api in lab.apis.values():
        if api.process.poll() is not None:
            api.start()
    lab.faults.delay, lab.faults.refuse = 0.0, False
    for one in lab.ask("GET", "/v1/recordings")[1]["recordings"]:
        assert lab.ask("DELETE", f"/v1/recordings/{one['id']}")[0] == 200
    wait_until(lambda: lab.captures() == 0, "no agent captures", timeout=20)


def end(lab: SeveralApis, id: str, *, gaps: int, acknowledged: int = 0) -> SaveFile:
    """End a recording by any api, and check its file, read from any api."""
    lab.goes_on(id)
    ended = lab.stop(id)
    assert ended["state"] == "stopped", ended
    file = lab.fetch(id)
    assert len(file.packets) == ended["packets"] >= acknowledged
    assert_one_of_each(file, gaps=gaps)
    return file


def missing(file: SaveFile) -> float:
    """Seconds of packets that are missing in the longest gap."""
    numbers = [stamp(packet.data).number for packet in file.packets]
    return max(second - first for first, second in zip(numbers, numbers[1:])) / RATE


def test_one_is_killed(lab: SeveralApis) -> None:
    """Within 30 seconds another api records, once; what was acknowledged is there, and the gap is stated."""
    id = lab.record()
    lab.await_packets(id, RATE)
    holder = lab.holder(id)
    acknowledged = lab.show(id)["packets"]
    lab.apis[holder].kill()
    took = lab.goes_on(id, within=30)
    assert lab.holder(id) not in ("", holder) and lab.captures() == 1
    file = end(lab, id, gaps=1, acknowledged=acknowledged)
    print(f"packets again after {took:.1f} s; {missing(file):.1f} s are missing")
    assert missing(file) < 30


def test_two_are_killed(lab: SeveralApis) -> None:
    """The third one records all recordings."""
    ids = [lab.record() for _ in range(3)]
    for id in ids:
        lab.await_packets(id, RATE // 2)
    for name in ("api-0", "api-1"):
        lab.apis[name].kill()
    for id in ids:
        lab.goes_on(id)
    assert {lab.holder(id) for id in ids} == {"api-2"} and lab.captures() == 3
    for id in ids:
        end(lab, id, gaps=1)


def test_one_sleeps_for_longer_than_its_lease(lab: SeveralApis) -> None:
    """Another api records; the one that wakes up notices, stores nothing more, and captures no longer."""
    id = lab.record()
    lab.await_packets(id, RATE)
    holder = lab.holder(id)
    acknowledged = lab.show(id)["packets"]
    lab.apis[holder].signal(signal.SIGSTOP)
    with lab.asking(lab.other(holder)):
        lab.goes_on(id)
        time.sleep(LEASE)
        lab.apis[holder].signal(signal.SIGCONT)
        time.sleep(3)
        assert lab.holder(id) != holder and lab.captures() == 1
        file = end(lab, id, gaps=1, acknowledged=acknowledged)
    assert "is not recorded here any longer" in lab.apis[holder].log()
    wait_until(lambda: lab.objects_of(id) == len(lab.rows_of(id)), "nothing else is stored", timeout=10)
    assert missing(file) < 30


def test_one_is_cut_off_from_the_database(lab: SeveralApis) -> None:
    """Another api records after its lease; what the first one captured meanwhile is not stored when it is back."""
    with lab.behind_forwarder("api-2") as forwarder:
        with lab.asking("api-2"):
            id = lab.record()
            lab.await_packets(id, RATE)
        acknowledged = lab.show(id)["packets"]
        forwarder.send_signal(signal.SIGSTOP)
        with lab.asking("api-0"):
            lab.goes_on(id)
            assert lab.holder(id) in {"api-0", "api-1"} and lab.captures() == 2
            time.sleep(LEASE)
            forwarder.send_signal(signal.SIGCONT)
            wait_until(lambda: lab.captures() == 1, "the first one captures no longer", timeout=20)
            assert missing(end(lab, id, gaps=1, acknowledged=acknowledged)) < 30
        wait_until(lambda: lab.objects_of(id) == len(lab.rows_of(id)), "nothing else is stored", timeout=10)


@pytest.mark.parametrize("away", ["database stopped", "database cut off", "bucket away"])
def test_something_is_away_for_a_minute(lab: SeveralApis, away: str) -> None:
    """Segments wait on the disk: nothing is lost, the same api records, and new recordings are refused."""
    id = lab.record()
    lab.await_packets(id, RATE)
    before = lab.holder(id), lab.epoch(id)
    refused = None
    with contextlib.ExitStack() as stack:
        if away == "database stopped":
            lab.postgres.stop()
            stack.callback(lab.postgres.start)
        elif away == "database cut off":
            stack.enter_context(lab.postgres.cut_off())
        else:
            lab.faults.refuse = True
            stack.callback(setattr, lab.faults, "refuse", False)
        time.sleep(60)
        assert lab.spooled(before[0]) > 20
        if away.startswith("database"):
            refused = lab.ask("POST", "/v1/recordings", {"targets": ["web-0"]})
    if refused is not None:
        assert (refused[0], refused[1]["errors"][0]["code"]) == (503, "state_unavailable")
    wait_until(lab.all_answer, "all apis reach the database again", timeout=20)
    wait_until(lambda: lab.show(id)["packets"] > 55 * RATE, "what waited is stored", timeout=60)
    wait_until(lambda: lab.spooled(before[0]) == 0, "nothing waits any longer", timeout=30)
    assert (lab.holder(id), lab.epoch(id)) == before
    file = end(lab, id, gaps=0)
    assert lab.show(id)["dropped"] == 0
    assert len(file.packets) > 60 * RATE


def test_a_rolling_update(lab: SeveralApis) -> None:
    """Each api ends with SIGTERM and starts again: recordings go on, with stated gaps of seconds."""
    ids = [lab.record() for _ in range(3)]
    for id in ids:
        lab.await_packets(id, RATE // 2)
    for api in lab.apis.values():
        api.stop()
        for id in ids:
            lab.goes_on(id, within=15)
        api.start()
    for id in ids:
        file = end(lab, id, gaps=3)
        print(f"{missing(file):.1f} s are missing")
        assert missing(file) < 8


def test_any_api_answers(lab: SeveralApis) -> None:
    """An api that does not record it lists, shows, clips, fetches, stops and deletes a recording; limits hold over all."""
    id = lab.record(keep=600)
    lab.await_packets(id, RATE)
    with lab.asking(lab.other(lab.holder(id))):
        assert [one["id"] for one in lab.ask("GET", "/v1/recordings")[1]["recordings"]] == [id]
        status, clip = lab.ask("POST", f"/v1/recordings/{id}/clip", {"before": 1, "after": 1})
        assert (status, clip["state"]) == (201, "open")
        key = lab.ask("POST", f"/v1/recordings/{id}/hook", {})[1]["hook"]["key"]
        assert lab.ask("POST", f"/v1/hooks/{id}", {}, token=key)[0] == 200
        wait_until(
            lambda: lab.show(id)["clips"][0]["state"] == "done", "the holder has made the clip", timeout=15
        )
        began = time.monotonic()
        lab.stop(id)
        print(f"stopped after {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < 10
        assert lab.fetch(id).packets and lab.fetch(id, "?clip=1").packets
        assert lab.ask("DELETE", f"/v1/recordings/{id}")[0] == 200
    for name in ("api-0", "api-1", "api-2"):
        with lab.asking(name):
            lab.record()
    assert (
        lab.ask("POST", "/v1/recordings", {"targets": ["web-0"]})[1]["errors"][0]["code"] == "limit_reached"
    )


def test_a_running_one_is_deleted_by_another_api(lab: SeveralApis) -> None:
    """A recording that is deleted by an api that does not record it captures no longer, and leaves no object."""
    id = lab.record()
    lab.await_packets(id, RATE)
    with lab.asking(lab.other(lab.holder(id))):
        assert lab.ask("DELETE", f"/v1/recordings/{id}")[0] == 200
    wait_until(lambda: lab.captures() == 0, "no agent captures", timeout=5)
    time.sleep(1)
    assert lab.objects_of(id) == 0 and not lab.rows_of(id)


def test_workers_of_one_api(tmp_path: Path) -> None:
    """When a worker is killed, the other one records, with SQLite and a directory between them."""
    api = {"workers": 2}
    with RecordingLab(tmp_path / "workers", api=api, limits=LIMITS) as lab, Generator(lab.link, rate=RATE):
        id = lab.record()
        lab.await_packets(id, RATE)
        acknowledged = lab.show(id)["packets"]
        argv = ["ss", "-Htnp", "state", "established", f"dport = :{lab.agent.port}"]
        shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        (pid,) = re.findall(r"pid=(\d+)", shown)
        assert int(pid) != lab.api.pid
        os.kill(int(pid), signal.SIGKILL)

        def goes_on() -> bool:
            try:
                return int(lab.show(id)["packets"]) > acknowledged + RATE
            except OSError:  # connections that the killed worker had not accepted yet
                return False

        wait_until(goes_on, "the recording goes on", timeout=30)
        lab.stop(id)
        assert_one_of_each(lab.fetch(id), gaps=1)
