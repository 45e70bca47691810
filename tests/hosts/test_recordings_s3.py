"""Recordings in an object store: a real S3 server, which is slow or refuses when a test wants it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Iterator

import pytest

from demo.processes import wait_until
from tests.kit.hosts.recordings import RATE, SOON, RecordingLab, assert_one_of_each
from tests.kit.lab import objects
from tests.kit.lab.generator import Generator

pytestmark = pytest.mark.long
pytest.importorskip("obstore", reason="obstore is not installed")

#: Of the bucket, which others use too.
PREFIX = "captures"
FOREIGN = "0b5f1fd4-1111-2222-3333-444455556666/0001/notes.txt"


class Bucket(RecordingLab):
    """A lab whose store is a bucket, behind a proxy."""

    def __init__(self, directory: Path, port: int, root: Path, faults: objects.Faults) -> None:
        directory.mkdir()
        file = directory / "credentials.json"
        file.write_text(json.dumps(objects.s3_settings(port)))
        section = {"store": f"s3://lab/{PREFIX}", "reserve": None, "credentials_file": str(file)}
        super().__init__(directory, store=section, limits={**SOON, "SEGMENT_SECONDS": 1.0})
        self.store = root / "lab" / PREFIX
        self.faults = faults


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """The server, the proxy, and the daemons."""
    directory = tmp_path_factory.mktemp("s3")
    faults = objects.Faults()
    with (
        objects.s3(objects.versitygw(directory), directory, "lab") as server,
        objects.proxy(server, faults) as port,
        Bucket(directory / "lab", port, directory / "root", faults) as lab,
    ):
        foreign = lab.store / FOREIGN
        foreign.parent.mkdir(parents=True)
        foreign.write_text("of somebody else")
        yield lab
        assert objects.SECRET not in lab.api.log()


def ours(lab: Bucket) -> set[str]:
    """The objects of recordings."""
    return {name for name in lab.objects() if name != FOREIGN and not name.startswith(".")}


def test_record_fetch_ring_and_delete(bucket: Bucket) -> None:
    """Segments are objects; the ring deletes them, a file is read from them, and deleting leaves only what is not ours."""
    with Generator(bucket.link, rate=RATE):
        id = bucket.record(keep_bytes=100_000)
        wait_until(lambda: bucket.show(id)["deleted_packets"] > RATE, "the ring has turned", timeout=30)
        ended = bucket.stop(id)
    file = bucket.fetch(id)
    assert_one_of_each(file, gaps=0)
    assert len(file.packets) == ended["packets"]
    wait_until(lambda: ours(bucket) == bucket.rows().keys(), "what the ring dropped is gone", timeout=10)
    assert bucket.ask("DELETE", f"/v1/recordings/{id}")[0] == 200
    assert not ours(bucket)
    assert (bucket.store / FOREIGN).exists()


@pytest.mark.parametrize(("delay", "refuse"), [(3.0, False), (0.0, True)], ids=["slow", "503"])
def test_the_store_has_trouble(bucket: Bucket, delay: float, refuse: bool) -> None:
    """For a while nothing is stored; nothing is lost but what the kernel counts, and the recording goes on."""
    with Generator(bucket.link, rate=RATE):
        id = bucket.record()
        bucket.await_packets(id, RATE)
        bucket.faults.delay, bucket.faults.refuse = delay, refuse
        time.sleep(6)
        bucket.faults.delay, bucket.faults.refuse = 0.0, False
        before = bucket.show(id)["packets"]
        bucket.await_packets(id, before + 6 * RATE, timeout=60)
        ended = bucket.stop(id)
    file = bucket.fetch(id)
    assert_one_of_each(file, gaps=0)
    assert ended["dropped"] == 0
    assert len(file.packets) == ended["packets"]


@pytest.mark.parametrize("refuse", [False, True], ids=["works", "503"])
def test_a_clip_is_an_object(bucket: Bucket, refuse: bool) -> None:
    """A clip outlives the segments that it is made from, also if the store refuses it for a while."""
    with Generator(bucket.link, rate=RATE):
        id = bucket.record(keep=2)
        bucket.await_packets(id, 2 * RATE)
        bucket.faults.refuse = refuse
        assert bucket.ask("POST", f"/v1/recordings/{id}/clip", {"before": 2, "after": 1})[0] == 201
        time.sleep(4)
        if refuse:
            assert bucket.show(id)["clips"][0]["state"] == "open"
            bucket.faults.refuse = False
        wait_until(lambda: bucket.show(id)["clips"][0]["state"] == "done", "it is stored", timeout=90)
        (clip,) = bucket.show(id)["clips"]
        wait_until(lambda: bucket.show(id)["first_us"] > clip["last_us"], "the ring has turned", timeout=30)
    assert (bucket.store / id / "clips" / "00000001-0001.pcapng").stat().st_size == clip["bytes"]
    file = bucket.fetch(id, "?clip=1")
    assert_one_of_each(file, gaps=0)
    assert 2 * RATE < len(file.packets) < 4 * RATE
    assert bucket.ask("DELETE", f"/v1/recordings/{id}")[0] == 200
    assert not [name for name in ours(bucket) if name.startswith(id)]


def test_an_api_that_ends_does_not_wait_for_the_store(bucket: Bucket) -> None:
    """SIGTERM is obeyed within the drain timeout although the store hangs; what is missing is a stated gap."""
    with Generator(bucket.link, rate=RATE):
        id = bucket.record()
        bucket.await_packets(id, RATE)
        bucket.faults.delay = 60.0
        time.sleep(2)
        began = time.monotonic()
        bucket.api.stop()
        assert time.monotonic() - began < 5 + 8
        bucket.faults.delay = 0.0
        acknowledged = sum(1 for name in bucket.rows() if name.startswith(id))
        assert acknowledged
        bucket.api.start()
        packets = bucket.show(id)["packets"]
        bucket.await_packets(id, packets + RATE)
        bucket.stop(id)
    assert_one_of_each(bucket.fetch(id), gaps=1)
