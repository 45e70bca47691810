"""The pages of recordings: starting, reading in parts, ending, and who may."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from demo.certificates import Credentials
from pcapd.api.resolvers.static import StaticResolver
from pcapd.errors import AuditUnavailable, Forbidden, RequestError, TargetNotFound
from pcapd.limits import BODY_MAX, FETCHES_MAX
from tests.kit.unit.api import BOB, Network
from tests.kit.unit.recordings import RecordingFront

pytest.importorskip("obstore", reason="obstore is not installed")

US = 1_700_000_000_000_000
Open = Callable[..., RecordingFront]


@pytest.fixture
def opened(
    reactor: Clock,
    credentials: Credentials,
    network: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Open]:
    """Make an api with recordings."""
    made: list[RecordingFront] = []

    def make(**options: Any) -> RecordingFront:
        made.append(RecordingFront(reactor, credentials, network, tmp_path, monkeypatch, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pages(opened: Open) -> RecordingFront:
    """An api with recordings."""
    return opened()


def audited(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Kind and user of the audit records about recordings."""
    return [
        (event["audit"], event["user"])
        for event in events
        if str(event.get("audit", "")).startswith("recording")
    ]


# --- starting ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b"{}", 400),
        (b'{"targets": ["web-0"], "keep": 0}', 400),
        (b'{"targets": ["web-0"], "keep": true}', 400),
        (b'{"targets": ["web-0"], "follow": true}', 400),
        (b'{"targets": ["web-9"]}', 404),
        (b'{"targets": ["web-0"]' + b" " * BODY_MAX + b"}", 413),
    ],
    ids=["nothing", "list", "no JSON", "no target", "keep 0", "keep true", "follow", "unknown", "too long"],
)
def test_what_is_not_started(pages: RecordingFront, body: bytes, status: int) -> None:
    """A request that makes no sense is refused, and leaves no recording and no capture."""
    assert pages.ask("/v1/recordings", method="POST", body=body).status == status
    assert json.loads(pages.call("GET", "").body) == {"recordings": []}
    assert not pages.api._captures


def test_a_recording(pages: RecordingFront) -> None:
    """A recording is started, listed, shown, ended once, fetched and deleted; then nothing of it is left."""
    answer = pages.call("POST", "", {"targets": ["web-0"], "filter": "udp", "keep": 900})
    id = json.loads(answer.body)["id"]
    assert answer.status == 201 and f"location: /v1/recordings/{id}" in answer.headers
    pages.network["web-0"].start("eth0")
    pages.fill(US, US + 1)
    assert [one["id"] for one in json.loads(pages.call("GET", "").body)["recordings"]] == [id]
    found = pages.show(id)
    assert (found["state"], found["packets"], found["first_us"], found["last_us"]) == (
        "recording",
        2,
        US,
        US + 1,
    )
    assert pages.call("POST", f"/{id}/stop").status == 200
    pages.network["web-0"].stats(2)
    pages.network["web-0"].end()
    assert (pages.show(id)["state"], pages.show(id)["message"]) == ("stopped", "stopped by its owner")
    assert pages.call("POST", f"/{id}/stop").error["code"] == "conflict"
    assert pages.call("GET", f"/{id}/capture").status == 200
    assert pages.call("DELETE", f"/{id}").status == 200
    assert pages.call("GET", f"/{id}").status == 404
    assert not pages.api._captures
    assert [path for path in (pages.directory / "store").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("token", [None, "unknown"])
def test_without_a_token(pages: RecordingFront, token: str | None) -> None:
    """Every page wants the user's token."""
    id = pages.start()
    for method, path in (
        ("GET", ""),
        ("POST", ""),
        ("GET", f"/{id}"),
        ("DELETE", f"/{id}"),
        ("POST", f"/{id}/stop"),
        ("GET", f"/{id}/capture"),
    ):
        body = {"targets": ["web-0"]} if (method, path) == ("POST", "") else None
        assert pages.call(method, path, body, token=token).status == 401, (method, path)


def test_how_many_one_user_may_have(pages: RecordingFront) -> None:
    """The limit counts those that run; and those of others do not count."""
    ids = [pages.start("web-0"), pages.start("web-1")]
    assert pages.call("POST", "", {"targets": ["web-2"]}).error["code"] == "limit_reached"
    assert pages.call("POST", "", {"targets": ["web-0"]}, token=BOB).status == 201
    assert pages.call("DELETE", f"/{ids[0]}").status == 200
    assert pages.call("POST", "", {"targets": ["web-2"]}).status == 201


def test_no_room(opened: Open) -> None:
    """A recording ends when all together have too many bytes, and the next one is refused."""
    pages = opened(max_bytes=100)
    id = pages.start()
    pages.fill(US)
    pages.network["web-0"].end()
    assert pages.show(id)["message"] == "there is no room for recordings"
    refused = pages.call("POST", "", {"targets": ["web-1"]})
    assert (refused.status, refused.error["code"]) == (507, "no_room")
    pages.call("DELETE", f"/{id}")
    assert pages.call("POST", "", {"targets": ["web-1"]}).status == 201


@pytest.mark.parametrize("answered", [False, True], ids=["before the row", "after the row"])
def test_the_client_leaves(pages: RecordingFront, answered: bool) -> None:
    """Who leaves before the answer has no recording; who leaves later finds it in the list."""
    pages.index.waiting = not answered
    answer = pages.call("POST", "", {"targets": ["web-0"]})
    answer.leave()
    pages.index.run()
    found = json.loads(pages.call("GET", "").body)["recordings"]
    assert len(found) == len(pages.api._captures) == len(pages.recordings._running) == answered


def test_no_audit_record(pages: RecordingFront, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a record of its start there is no recording, and nothing of it runs on."""

    def refuse(event: str, **_: Any) -> None:
        if event == "capture_started":
            raise AuditUnavailable("the disk is full")

    monkeypatch.setattr(pages.api._trail, "record", refuse)
    assert pages.call("POST", "", {"targets": ["web-0"]}).error["code"] == "audit_unavailable"
    assert json.loads(pages.call("GET", "").body) == {"recordings": []}
    assert not pages.api._captures and not pages.recordings._running
    assert not [call for call in pages.reactor.getDelayedCalls() if "Recorder" in str(call)]


def test_the_index_fails(pages: RecordingFront) -> None:
    """The user is told so, no capture is left, and the log is not told of a defect."""
    pages.api._admission.database._engine.dispose()
    (pages.directory / "state.db").write_bytes(b"not a database" * 100)
    assert pages.call("POST", "", {"targets": ["web-0"]}).error["code"] == "state_unavailable"
    assert not pages.api._captures and not pages.recordings._running


# --- reading -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "start", "end"),
    [
        ({}, 200, 0, None),
        ({"range": "bytes=4-"}, 206, 4, None),
        ({"range": "bytes=0-3"}, 206, 0, 4),
        ({"range": "bytes=4-", "if_range": "TAG"}, 206, 4, None),
        ({"range": "bytes=4-", "if_range": '"other"'}, 200, 0, None),
        ({"range": "bytes=99999999-"}, 416, 0, 0),
    ],
    ids=["all", "rest", "begin", "same file", "other file", "behind the end"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_parts_of_a_file(
    pages: RecordingFront, method: str, headers: dict[str, str], status: int, start: int, end: int | None
) -> None:
    """One range of bytes can be asked for, only if the file is the same; HEAD has the same headers."""
    id = pages.start()
    pages.fill(US)
    pages.fill(US + 10)
    whole = pages.call("GET", f"/{id}/capture")
    assert whole.status == 200 and len(whole.body) > 500
    tag = whole.headers.partition("etag: ")[2].split()[0]
    headers = {name: value.replace("TAG", tag) for name, value in headers.items()}
    answer = pages.call(method, f"/{id}/capture", **headers)
    assert answer.status == status
    expected = whole.body[start:end]
    assert f"content-length: {len(expected)}" in answer.headers
    assert answer.body == (expected if method == "GET" else b"")
    if status == 206:
        last = start + len(expected) - 1
        assert f"content-range: bytes {start}-{last}/{len(whole.body)}" in answer.headers


@pytest.mark.parametrize(
    ("query", "status"),
    [("?from=yesterday", 400), ("?from=2099-01-01T00:00:00Z", 404), ("?to=2099-01-01T00:00:00Z", 200)],
)
def test_a_time(pages: RecordingFront, query: str, status: int) -> None:
    """A time that is none is refused, and one without packets has no file."""
    id = pages.start()
    pages.fill(US)
    assert pages.call("GET", f"/{id}/capture{query}").status == status


def test_too_many_files_at_once(pages: RecordingFront) -> None:
    """Files that nobody reads are bounded; one that is given up makes room for another."""
    id = pages.start()
    pages.fill(US)
    pages.store.waiting = True
    asked = [pages.call("GET", f"/{id}/capture") for _ in range(FETCHES_MAX)]
    assert pages.call("GET", f"/{id}/capture").error["code"] == "limit_reached"
    asked[0].leave()
    pages.store.run()
    assert pages.call("GET", f"/{id}/capture").status == 200


def test_a_client_leaves_in_the_middle(pages: RecordingFront, events: list[dict[str, Any]]) -> None:
    """Who has enough is no refused request, and the next one is served."""
    id = pages.start()
    pages.fill(US)
    pages.store.waiting = True
    pages.call("GET", f"/{id}/capture").leave()
    pages.store.run()
    assert not [event for event in events if event.get("audit") == "capture_refused"]
    assert pages.recordings is not None and pages.api._desk._fetches == 0


# --- who may -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", "/capture")]
)
def test_others_see_nothing(pages: RecordingFront, method: str, path: str) -> None:
    """For others there is no such recording: the answer is that for an unknown one."""
    id = pages.start()
    pages.fill(US)
    answer = pages.call(method, f"/{id}{path}", token=BOB)
    unknown = pages.call(method, f"/unknown{path}", token=BOB)
    assert answer.status == unknown.status == 404
    assert answer.error["title"].replace(id, "unknown") == unknown.error["title"]
    assert json.loads(pages.call("GET", "", token=BOB).body) == {"recordings": []}


def test_operators(opened: Open, events: list[dict[str, Any]]) -> None:
    """An operator sees, reads, ends and deletes everybody's, and each of it is on record."""
    pages = opened(operators=("static/bob",))
    id = pages.start("web-1")
    pages.fill(US, target="web-1")
    assert [one["id"] for one in json.loads(pages.call("GET", "", token=BOB).body)["recordings"]] == [id]
    for method, path in (("GET", "/capture"), ("POST", "/stop"), ("DELETE", "")):
        assert pages.call(method, f"/{id}{path}", token=BOB).status == 200
    assert audited(events) == [
        ("recordings_listed", "bob"),
        ("recording_fetched", "bob"),
        ("recording_stop_requested", "bob"),
        ("recording_deleted", "bob"),
    ]


@pytest.mark.parametrize(
    ("readers", "target", "status"),
    [("owner", "web-0", 404), ("permitted", "web-0", 200), ("permitted", "web-1", 404)],
)
def test_readers(opened: Open, readers: str, target: str, status: int) -> None:
    """Whoever may capture the same targets may read, if the operator wants so; but not end or delete."""
    pages = opened(readers=readers)
    id = pages.start(target)
    pages.fill(US, target=target)
    assert pages.call("GET", f"/{id}/capture", token=BOB).status == status
    assert pages.call("POST", f"/{id}/stop", token=BOB).status == 404
    assert pages.call("DELETE", f"/{id}", token=BOB).status == 404


@pytest.mark.parametrize(
    ("error", "status"), [(Forbidden("no"), 403), (TargetNotFound("deleted"), 404)], ids=["lost", "deleted"]
)
def test_the_permission_is_asked_anew(
    pages: RecordingFront, monkeypatch: pytest.MonkeyPatch, error: RequestError, status: int
) -> None:
    """Who lost the permission, or whose app was deleted, cannot read packets any longer, but can delete them."""
    id = pages.start()
    pages.fill(US)
    monkeypatch.setattr(StaticResolver, "survey", lambda *_: defer.fail(error))
    assert pages.call("GET", f"/{id}/capture").status == status
    assert pages.call("DELETE", f"/{id}").status == 200


def test_whole_packets_for_somebody_with_headers_only(
    pages: RecordingFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may now capture headers only cannot fetch a recording of whole packets."""
    whole = pages.start()
    pages.fill(US)
    survey = StaticResolver.survey

    def headers_only(*given: Any) -> Any:
        return survey(*given).addCallback(lambda found: dataclasses.replace(found, headers_only=True))

    monkeypatch.setattr(StaticResolver, "survey", headers_only)
    answer = pages.call("GET", f"/{whole}/capture")
    assert answer.status == 403 and b"headers only" in answer.body
