"""Clips as they are made: their limits, their room, a store that fails, their metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from demo.certificates import Credentials
from pcapd.limits import CLIPS_AUTOMATIC_MAX, CLIPS_MAX, CLIPS_OPEN_MAX, STORE_PATIENCE
from pcapd.net.clock import now_us
from tests.kit.unit.api import Network
from tests.kit.unit.front import Answer
from tests.kit.unit.recordings import RecordingFront

pytest.importorskip("obstore", reason="obstore is not installed")

from pcapd.api.recordings.store import StoreTrouble
from pcapd.api.recordings.tables import Clip


@pytest.fixture
def pages(
    reactor: Clock,
    credentials: Credentials,
    network: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RecordingFront]:
    """An api with recordings."""
    made = RecordingFront(reactor, credentials, network, tmp_path, monkeypatch)
    yield made
    made.close()


def clip(pages: RecordingFront, id: str, **body: Any) -> Answer:
    """Ask for a clip of the last ten seconds."""
    return pages.call("POST", f"/{id}/clip", {"before": 10, "after": 0, **body})


def states(pages: RecordingFront, id: str) -> list[str]:
    return [one["state"] for one in pages.show(id)["clips"]]


def counted(pages: RecordingFront) -> dict[str, float]:
    """The counters of clips and segments, by name and label."""
    found = {}
    for metric in pages.recordings.metrics.registry.collect():
        for sample in metric.samples:
            if "recording_clips" in sample.name or "segments_stored_total" in sample.name:
                found[" ".join([sample.name, *sample.labels.values()])] = sample.value
    return {name: value for name, value in found.items() if name.split()[0].endswith("_total")}


def strike(pages: RecordingFront, id: str) -> Answer:
    """Ask for a clip as an alert manager does."""
    key = json.loads(pages.call("POST", f"/{id}/hook").body)["hook"]["key"]
    return pages.ask(f"/v1/hooks/{id}", method="POST", body=b"{}", token=key)


@pytest.mark.parametrize(
    ("there", "ask", "status"),
    [
        (CLIPS_AUTOMATIC_MAX - 1, strike, 200),
        (CLIPS_AUTOMATIC_MAX, strike, 429),
        (CLIPS_AUTOMATIC_MAX, clip, 201),
        (CLIPS_MAX - 1, clip, 201),
        (CLIPS_MAX, clip, 429),
    ],
)
def test_how_many_clips_there_are(pages: RecordingFront, there: int, ask: Any, status: int) -> None:
    """Fewer clips are made without a command, so that a storm of alerts leaves room for people."""
    id = pages.start()
    for _ in range(there):
        pages.recordings.index.add_clip(Clip(id, 0, "x", 1, 2, "done"))
    assert ask(pages, id).status == status
    assert len(states(pages, id)) == there + (status != 429)


def test_how_many_clips_wait(pages: RecordingFront) -> None:
    """Clips that are not finished hold segments of the ring, so there are few of them."""
    id = pages.start()
    for _ in range(CLIPS_OPEN_MAX):
        assert clip(pages, id, after=3600).status == 201
    assert clip(pages, id, after=3600).status == 429


def test_there_is_no_room(pages: RecordingFront) -> None:
    """Without room no clip is begun (507); one that does not fit when it is made has failed, and nothing is stored."""
    id = pages.start()
    pages.fill(now_us())
    room = pages.recordings._bytes
    object.__setattr__(pages.recordings._config, "max_bytes", room)
    answer = clip(pages, id)
    assert answer.status == 507 and b"no_room" in answer.body
    object.__setattr__(pages.recordings._config, "max_bytes", room + 1)
    assert clip(pages, id).status == 201
    object.__setattr__(pages.recordings._config, "max_bytes", room + 700)
    pages.fill(now_us() + 1000)
    assert states(pages, id) == ["failed"]
    assert not list((pages.directory / "store" / id).glob("clips/*"))


@pytest.mark.parametrize("works", [True, False])
def test_a_store_that_fails_while_a_clip_is_made(
    pages: RecordingFront, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """A clip is tried again until the patience is over; meanwhile the ring keeps what the clip needs."""
    id = pages.start(keep_bytes=1)
    pages.fill(now_us())
    join, tries = pages.recordings.store.join, []

    def fail(*arguments: Any) -> Any:
        tries.append(arguments)
        if works and len(tries) > 3:
            return join(*arguments)
        return defer.fail(StoreTrouble("the store of recordings failed: SlowDown"))

    monkeypatch.setattr(pages.recordings.store, "join", fail)
    assert clip(pages, id).status == 201
    pages.fill(now_us() + 1000)
    pages.fill(now_us() + 2000)
    if works:
        (made,) = pages.show(id)["clips"]
        assert (made["state"], len(tries)) == ("done", 4)
        stored = pages.directory / "store" / id / "clips" / "00000001.pcapng"
        assert stored.stat().st_size == made["bytes"]
        return
    assert (
        states(pages, id) == ["open"] and len(list((pages.directory / "store" / id / "0001").iterdir())) == 3
    )
    pages.pass_time(STORE_PATIENCE + 5)
    assert states(pages, id) == ["failed"]
    pages.fill(now_us() + 3000)
    assert len(list((pages.directory / "store" / id / "0001").iterdir())) == 1


def test_clips_are_counted(pages: RecordingFront) -> None:
    """By what began them and by how they ended, and not as segments."""
    id = pages.start()
    pages.fill(now_us())
    assert clip(pages, id).status == 201
    assert strike(pages, id).status == 200
    pages.fill(now_us() + 1000)
    assert clip(pages, id, before=0).status == 201
    pages.call("POST", f"/{id}/stop")
    assert counted(pages) == {
        "pcapd_recording_segments_stored_total": 2,
        "pcapd_recording_clips_opened_total command": 2,
        "pcapd_recording_clips_opened_total hook": 1,
        "pcapd_recording_clips_ended_total done": 1,
    }
