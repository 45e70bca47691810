"""Recordings when something fails: nothing that was acknowledged is lost, and what is missing is stated.

The api is killed at each step of a recording's life (`tests.kit.lab.killed`), the agent at several; the disk
is full, clocks are set.
"""

from __future__ import annotations

import http.client
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from demo.processes import wait_until
from tests.kit.hosts.chain import SaveFile
from tests.kit.hosts.recordings import RATE, SOON, RecordingLab, assert_one_of_each
from tests.kit.lab.clock import Clock
from tests.kit.lab.generator import Generator
from tests.kit.lab.readers import require

pytest.importorskip("obstore", reason="obstore is not installed")

SERVICE = "pcapd.api.recordings.service:Recordings"
STORE = "pcapd.api.recordings.store:Store"
INDEX = "pcapd.api.recordings.index:Index"


@pytest.fixture(scope="module")
def lab_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingLab]:
    """Hosts and daemons."""
    require("tshark")
    with RecordingLab(tmp_path_factory.mktemp("recordings")) as lab:
        yield lab


@pytest.fixture
def lab(lab_of_module: RecordingLab) -> Iterator[RecordingLab]:
    """The daemons run, there are no recordings, and packets flow."""
    lab = lab_of_module
    with Generator(lab.link, rate=RATE):
        yield lab
    for daemon in (lab.agent, lab.api):
        daemon.below, daemon.variables, daemon.limits = (), {}, SOON if daemon is lab.api else {}
        if daemon.process.poll() is not None:
            daemon.start()
    for one in lab.ask("GET", "/v1/recordings")[1]["recordings"]:
        assert lab.ask("DELETE", f"/v1/recordings/{one['id']}")[0] == 200


def assert_readable(lab: RecordingLab, id: str) -> None:
    """Tshark reads the whole file without a complaint."""
    path = lab.directory / "whole.pcapng"
    connection, answer = lab.send("GET", f"/v1/recordings/{id}/capture")
    path.write_bytes(answer.read())
    connection.close()
    done = subprocess.run(
        ["tshark", "-r", str(path), "-q", "-z", "io,stat,0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "Running as" not in line]) == (
        0,
        [],
    )


def goes_on(lab: RecordingLab, id: str, acknowledged: int = 0) -> SaveFile:
    """The recording goes on, keeps what was acknowledged, and can be ended and read; return its file."""
    found = lab.show(id)
    assert found["state"] in ("starting", "recording")
    before = found["packets"] + found["deleted_packets"]
    assert before >= acknowledged
    lab.await_packets(id, before + RATE // 2)
    ended = lab.stop(id)
    assert ended["state"] == "stopped", ended
    file = lab.fetch(id)
    assert len(file.packets) == ended["packets"]
    assert_readable(lab, id)
    wait_until(lambda: lab.objects() == lab.rows().keys(), "no orphans are left", timeout=20)
    lab.assert_index_right()
    return file


def kill_at(lab: RecordingLab, point: str, count: int) -> None:
    """Restart the api so that it dies at this point."""
    lab.api.stop()
    lab.api.below = [sys.executable, "-m", "tests.kit.lab.killed", point, str(count)]
    lab.api.start()


def dead(lab: RecordingLab) -> bool:
    return lab.api.process.poll() is not None


def revive(lab: RecordingLab) -> None:
    assert lab.api.process.wait(20) == -signal.SIGKILL
    lab.api.below = ()
    lab.assert_index_right(orphans=True)
    lab.api.start()


@pytest.mark.parametrize(
    ("point", "count"),
    [
        pytest.param(f"{STORE}.put:before", 3, id="before the put", marks=pytest.mark.long),
        pytest.param("torn", 3, id="during the put"),
        pytest.param(f"{STORE}.put:after", 3, id="between put and row"),
        pytest.param(f"{INDEX}.add_segment:after", 3, id="after the row", marks=pytest.mark.long),
        pytest.param(f"{INDEX}.drop_segments:before", 1, id="before the ring drops", marks=pytest.mark.long),
        pytest.param(f"{INDEX}.drop_segments:after", 2, id="while the ring drops"),
        pytest.param(f"{STORE}.delete:after", 1, id="after the ring dropped", marks=pytest.mark.long),
    ],
)
def test_the_api_is_killed_while_it_records(lab: RecordingLab, point: str, count: int) -> None:
    """The recording goes on, with everything that was shown before, one stated gap, and no orphans."""
    kill_at(lab, point, count)
    id = lab.record(keep_bytes=60_000)
    acknowledged = 0
    while not dead(lab):
        try:
            found = lab.show(id)
        except (OSError, http.client.HTTPException):
            break
        acknowledged = found["packets"] + found["deleted_packets"]
        time.sleep(0.05)
    revive(lab)
    assert acknowledged
    assert_one_of_each(goes_on(lab, id, acknowledged), gaps=1)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(f"{INDEX}.create:before", id="before the row", marks=pytest.mark.long),
        pytest.param(f"{INDEX}.create:after", id="before its capture"),
        pytest.param(f"{SERVICE}._begin:after", id="before the answer", marks=pytest.mark.long),
    ],
)
def test_the_api_is_killed_while_one_starts(lab: RecordingLab, point: str) -> None:
    """Without an answer there is no recording, or its owner sees one that goes on."""
    kill_at(lab, point, 1)
    with pytest.raises((OSError, http.client.HTTPException)):
        lab.record()
    revive(lab)
    found = lab.ask("GET", "/v1/recordings")[1]["recordings"]
    assert len(found) == ("create:before" not in point)
    for one in found:
        goes_on(lab, one["id"])


@pytest.mark.long
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(f"{INDEX}.claim:after", id="its epoch is noted"),
        pytest.param(f"{SERVICE}._begin:before", id="before its capture"),
        pytest.param(f"{SERVICE}._begin:after", id="after its capture began"),
    ],
)
def test_the_api_is_killed_while_it_resumes(lab: RecordingLab, point: str) -> None:
    """A recording that is continued goes on after the next start."""
    id = lab.record()
    lab.await_packets(id, RATE // 2)
    acknowledged = lab.show(id)["packets"]
    lab.api.kill()
    lab.api.below = [sys.executable, "-m", "tests.kit.lab.killed", point, "1"]
    lab.api.launch()
    revive(lab)
    assert_one_of_each(goes_on(lab, id, acknowledged), gaps=1)


@pytest.mark.parametrize(
    ("point", "there"),
    [
        pytest.param(f"{INDEX}.remove:before", True, id="before the row", marks=pytest.mark.long),
        pytest.param(f"{INDEX}.remove:after", False, id="between row and objects"),
        pytest.param(f"{STORE}._delete:after", False, id="after some objects", marks=pytest.mark.long),
    ],
)
def test_the_api_is_killed_while_it_deletes(lab: RecordingLab, point: str, there: bool) -> None:
    """The recording is there with everything, or it is gone and so are its objects."""
    kill_at(lab, point, 1)
    id = lab.record()
    lab.await_packets(id, RATE)
    packets = lab.stop(id)["packets"]
    with pytest.raises((OSError, http.client.HTTPException)):
        lab.ask("DELETE", f"/v1/recordings/{id}")
    revive(lab)
    status, found = lab.ask("GET", f"/v1/recordings/{id}")
    assert status == (200 if there else 404)
    if there:
        assert len(lab.fetch(id).packets) == found["packets"] == packets
    wait_until(lambda: lab.objects() == lab.rows().keys(), "no orphans are left", timeout=20)


def test_the_api_is_killed_while_it_stops_one(lab: RecordingLab) -> None:
    """A stop that was answered is not forgotten, or the recording can be stopped again."""
    kill_at(lab, f"{SERVICE}.finish:before", 1)
    id = lab.record()
    lab.await_packets(id, RATE // 2)
    assert lab.ask("POST", f"/v1/recordings/{id}/stop", {})[0] == 200
    revive(lab)
    goes_on(lab, id)


def test_the_api_ends_in_good_order(lab: RecordingLab) -> None:
    """What was captured until SIGTERM is stored, and the recording goes on after the start, with its gap."""
    id = lab.record()
    lab.await_packets(id, RATE // 2)
    lab.api.stop()
    stored = sum(1 for name in lab.rows() if name.startswith(id))
    assert stored
    lab.assert_index_right()
    lab.api.start()
    file = goes_on(lab, id)
    assert_one_of_each(file, gaps=1)
    assert len(file.comments) == 2


@pytest.mark.parametrize(
    "long_gone", [False, pytest.param(True, marks=pytest.mark.long)], ids=["back soon", "gone for a while"]
)
def test_the_agent_is_killed(lab: RecordingLab, long_gone: bool) -> None:
    """The agent is dialled again, and the gap is stated."""
    id = lab.record()
    lab.await_packets(id, RATE // 2)
    acknowledged = lab.show(id)["packets"]
    lab.agent.kill()
    time.sleep(5 if long_gone else 0)
    assert lab.show(id)["state"] == "recording"
    lab.agent.start()
    file = goes_on(lab, id, acknowledged)
    assert_one_of_each(file, gaps=1)
    assert sum("it was not captured from" in one.remarks for one in file.interfaces) == 1


@pytest.mark.long
def test_both_are_killed(lab: RecordingLab) -> None:
    """An api that starts before the agents, as after a power failure, awaits them."""
    id = lab.record("web-0", "web-1")
    lab.await_packets(id, RATE // 2)
    acknowledged = lab.show(id)["packets"]
    lab.agent.kill()
    lab.api.kill()
    lab.api.start()
    time.sleep(2)
    assert lab.show(id)["state"] == "recording"
    lab.agent.start()
    found = lab.show(id)
    lab.await_packets(id, found["packets"] + RATE)
    assert lab.stop(id)["packets"] > acknowledged
    assert_readable(lab, id)


def test_the_agent_is_not_there(lab: RecordingLab) -> None:
    """A recording whose only agent cannot be reached fails at once, and says why; a continued one can be stopped."""
    id = lab.record()
    lab.await_packets(id, 1)
    lab.agent.kill()
    lab.api.kill()
    lab.api.start()
    status, found = lab.ask("POST", "/v1/recordings", {"targets": ["web-0"]})
    assert status == 201
    failed = lab.await_state(found["id"], "failed")
    assert "Connection refused" in failed["message"]
    assert lab.stop(id)["message"] == "stopped by its owner"


@pytest.mark.long
@pytest.mark.parametrize("step", [3600.0, -3600.0], ids=["ahead", "back"])
def test_the_clock_is_set(lab: RecordingLab, tmp_path: Path, step: float) -> None:
    """A ring keeps its packets, and the recording goes on, also after a restart."""
    clock = Clock(tmp_path / "clock")
    lab.api.stop()
    lab.api.variables = clock.variables
    lab.api.start()
    id = lab.record(keep=600)
    lab.await_packets(id, RATE)
    clock.step(step)
    lab.await_packets(id, 3 * RATE)
    assert lab.show(id)["deleted_packets"] == 0
    assert_one_of_each(goes_on(lab, id), gaps=0)


# --- the disk ------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RecordingLab]:
    """A lab whose store is on a small disk."""
    lab = RecordingLab(tmp_path / "lab", limits={**SOON, "STORE_PATIENCE": 60.0})
    lab.store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(lab.store)], check=True)
    try:
        with lab:
            yield lab
    finally:
        subprocess.run(["umount", str(lab.store)], check=True)


def test_the_disk_is_nearly_full(small: RecordingLab) -> None:
    """A recording ends before the reserve is used, and says so; the next one is refused."""
    with Generator(small.link, rate=3000, size=1000):
        id = small.record()
        ended = small.await_state(id, "stopped", "failed", timeout=40)
        assert "there is no room for recordings" in ended["message"]
        free = shutil.disk_usage(small.store).free
        assert free >= 1_000_000, "the reserve"
        filler = small.store / "filler"
        filler.write_bytes(bytes(free - 500_000))
        status, refused = small.ask("POST", "/v1/recordings", {"targets": ["web-0"]})
        assert (status, refused["errors"][0]["code"]) == (507, "no_room")
        filler.unlink()
    small.assert_index_right()
    assert len(small.fetch(id).packets) == ended["packets"]


def test_the_disk_is_full(small: RecordingLab) -> None:
    """While nothing can be stored, the agent is paused and its kernel counts; afterwards the recording goes on."""
    with Generator(small.link, rate=RATE) as generator:
        id = small.record()
        small.await_packets(id, RATE // 2)
        filler = small.store / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(8 << 20))
        wait_until(lambda: health(small) != "ready", "it says so", timeout=20)
        acknowledged = small.show(id)["packets"]
        time.sleep(2)
        filler.unlink()
        small.await_packets(id, acknowledged + 3 * RATE)
        wait_until(lambda: health(small) == "ready", "it is well again", timeout=20)
        ended = small.stop(id)
        generator.stop()
    assert_one_of_each(small.fetch(id), gaps=0)
    assert ended["dropped"] == 0
    small.assert_index_right()


def health(lab: RecordingLab) -> str:
    status, found = lab.ask("GET", "/health")
    assert status == 200
    return str(found["message"])


# --- two things at once ----------------------------------------------------------


def test_starts_at_the_same_time(lab: RecordingLab) -> None:
    """However many are started at once, no user gets more recordings than allowed."""
    answers: list[int] = []

    def start() -> None:
        answers.append(lab.ask("POST", "/v1/recordings", {"targets": ["web-0"]})[0])

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201] * 3 + [429] * 5
    found = lab.ask("GET", "/v1/recordings")[1]["recordings"]
    assert len(found) == 3


def test_a_running_one_is_deleted(lab: RecordingLab) -> None:
    """Nothing of it is left: no row, no object, no capture."""
    ids = [lab.record() for _ in range(3)]
    for id in ids:
        lab.await_packets(id, 1)
        assert lab.ask("DELETE", f"/v1/recordings/{id}")[0] == 200
    assert lab.ask("GET", "/v1/captures")[1]["captures"] == []
    time.sleep(1)
    assert not lab.objects() and not lab.rows()


def test_a_segment_goes_while_it_is_fetched(lab: RecordingLab) -> None:
    """The answer is cut off, so that the client notices."""
    id = lab.record()
    lab.await_packets(id, RATE)
    lab.stop(id)
    (lab.store / max(name for name in lab.rows() if name.startswith(id))).unlink()
    connection, answer = lab.send("GET", f"/v1/recordings/{id}/capture")
    assert answer.status == 200
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()
