"""What an api does with the recordings that ran when the one before it ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from demo.certificates import Credentials
from pcapd.errors import Draining
from pcapd.limits import ORPHAN_AGE, REDIAL_PATIENCE, SWEEP_INTERVAL
from pcapd.net.clock import now_us
from tests.kit.unit.api import Network
from tests.kit.unit.recordings import RecordingFront

pytest.importorskip("obstore", reason="obstore is not installed")

from pcapd.api.recordings.tables import Clip
from pcapd.errors import StateUnavailable

US = 1_700_000_000_000_000


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


def killed(pages: RecordingFront) -> None:
    """The api ends as with SIGKILL: its timers and agents are gone, its store and database stay."""
    for answer in pages._answers:
        answer.leave()
    pages._answers.clear()
    for call in pages.reactor.getDelayedCalls():
        call.cancel()
    pages.network.agents.clear()


def test_it_goes_on_when_its_agents_are_there(pages: RecordingFront) -> None:
    """While no agent can be reached it is tried again; then it is recorded in one more epoch."""
    id = pages.start()
    pages.fill(US)
    killed(pages)
    pages.boot()
    for _ in range(3):
        pages.network["web-0"].refuse("capture_failed", "not yet")
        pages.pass_time(5)
        assert pages.show(id)["state"] == "recording"
    pages.network["web-0"].start("eth0")
    pages.delivered = 0
    pages.fill(US + 10)
    assert (pages.show(id)["packets"], pages.show(id)["state"]) == (2, "recording")
    file = pages.call("GET", f"/{id}/capture").body
    assert file.count(b"\n\r\r\n") == 2 and b"nothing was recorded from 20" in file


def test_its_agents_never_come_back(pages: RecordingFront) -> None:
    """After an hour it is given up, with the agent's last word."""
    id = pages.start()
    killed(pages)
    pages.boot()
    for _ in range(200):
        if pages.show(id)["state"] == "failed":
            break
        agent = pages.network["web-0"]
        if agent.transport.connected:
            agent.refuse("capture_failed", "no such place")
        pages.reactor.advance(REDIAL_PATIENCE / 60)
    assert (pages.show(id)["state"], "no such place" in pages.show(id)["message"]) == ("failed", True)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_one_that_waits_for_its_agents(pages: RecordingFront, method: str) -> None:
    """A recording that waits counts for its owner, who can end or delete it; then its agents are not dialled any more."""
    id = pages.start()
    killed(pages)
    pages.boot()
    pages.network["web-0"].refuse("capture_failed", "not yet")
    assert pages.call("POST", "", {"targets": ["web-1"]}).status == 201
    assert pages.call("POST", "", {"targets": ["web-2"]}).error["code"] == "limit_reached"
    assert pages.call(method, f"/{id}" + ("/stop" if method == "POST" else "")).status == 200
    pages.network.agents.pop("web-0")
    pages.reactor.advance(60)
    assert "web-0" not in pages.network.agents
    if method == "POST":
        assert pages.show(id)["state"] == "stopped"


def test_a_second_that_starts_while_the_api_ends(
    pages: RecordingFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An api that is stopped at its start leaves the recordings to the next one."""
    id = pages.start()
    killed(pages)

    def refuse(_: Any) -> None:
        raise Draining("the api is shutting down")

    monkeypatch.setattr("pcapd.api.service.Api.accepting", refuse)
    pages.boot()
    assert pages.show(id)["state"] == "recording"


def test_the_database_comes_later(pages: RecordingFront, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the index can be read no recording starts, and then the old ones go on."""
    id = pages.start()
    killed(pages)
    total = "pcapd.api.recordings.index.Index.total"
    with monkeypatch.context() as context:
        context.setattr(total, lambda _: defer.fail(StateUnavailable("not yet")))
        pages.boot()
        assert pages.call("POST", "", {"targets": ["web-1"]}).error["code"] == "state_unavailable"
        assert pages.api.health()["message"] == "ready, but recordings cannot be stored"
    assert "web-0" not in pages.network.agents
    pages.reactor.advance(1)
    pages.network["web-0"].start("eth0")
    assert pages.show(id)["state"] == "recording"
    assert pages.api.health()["message"] == "ready"


def test_an_end_that_could_not_be_noted(pages: RecordingFront, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is noted later, so that a restart does not continue a recording that its owner ended."""
    id = pages.start()
    with monkeypatch.context() as context:
        context.setattr(
            "pcapd.api.recordings.index.Index.change", lambda *_, **__: defer.fail(StateUnavailable("full"))
        )
        pages.call("POST", f"/{id}/stop")
        pages.network["web-0"].end()
        assert pages.recordings.troubled
    pages.reactor.advance(SWEEP_INTERVAL)
    assert pages.show(id)["state"] == "stopped" and not pages.recordings.troubled


def test_its_time_is_over(pages: RecordingFront, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording whose duration passed while no api ran is not continued."""
    id = pages.start(duration=60)
    killed(pages)
    monkeypatch.setattr("pcapd.api.recordings.service.now_us", lambda: now_us() + 61_000_000)
    pages.boot()
    assert (pages.show(id)["state"], pages.show(id)["message"]) == ("stopped", "its time is over")
    assert "web-0" not in pages.network.agents


def test_what_is_deleted_as_orphans(pages: RecordingFront) -> None:
    """Old objects without a row go, and half written files; what is new, known or not ours stays."""
    id = pages.start()
    pages.fill(US)
    pages.recordings.index.add_clip(Clip(id, 0, "crash", 1, 2))
    store = pages.directory / "store"
    stays = [f"{id}/0001/00000001.pcapng", f"{id}/clips/00000001.pcapng", f"{id}/0001/00000009.pcapng"]
    stays += ["notes.txt", "someone/0001/00000001.pcapng", f"{id}/0001/notes.txt"]
    gone = [f"{id}/0001/00000007.pcapng", f"{id}/clips/00000002.pcapng", f"{id}/0001/00000008.pcapng#1"]
    gone += ["0b5f1fd4-1111-2222-3333-444455556666/0001/00000001.pcapng"]
    for name in (*stays, *gone):
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.read_bytes() if path.exists() else b"x")
        if not name.endswith("9.pcapng"):
            os.utime(path, (0, path.stat().st_mtime - 2 * ORPHAN_AGE))
    pages.reactor.advance(SWEEP_INTERVAL)
    found = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    assert found == set(stays)
