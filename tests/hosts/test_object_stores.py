"""The store of recordings with real servers: S3 (versitygw) and Azure Blob Storage (Azurite)."""

from __future__ import annotations

import secrets
from typing import Any, Iterator, NamedTuple

import pytest
from twisted.internet.task import Clock

from tests.kit.lab import objects
from tests.kit.unit.recordings import Inline

pytest.importorskip("obstore", reason="obstore is not installed")

from pcapd.api.recordings.store import Store, StoreTrouble
from pcapd.limits import CLIP_PIECE

pytestmark = pytest.mark.long


class Server(NamedTuple):
    """A store behind a proxy."""

    store: Store
    faults: objects.Faults


@pytest.fixture(scope="module", params=["s3", "az"])
def url_and_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str], objects.Faults]]:
    """The server, for all tests."""
    directory, faults = tmp_path_factory.mktemp(request.param), objects.Faults()
    if request.param == "s3":
        with (
            objects.s3(objects.versitygw(directory), directory, "lab") as server,
            objects.proxy(server, faults) as port,
        ):
            yield "s3://lab/captures", objects.s3_settings(port), faults
    else:
        with objects.azurite(directory, "lab") as server, objects.proxy(server, faults) as port:
            yield "az://lab", objects.azure_settings(port), faults


@pytest.fixture
def server(url_and_settings: Any, monkeypatch: pytest.MonkeyPatch) -> Server:
    """An empty store whose work is done at once."""
    url, settings, faults = url_and_settings
    monkeypatch.setattr("pcapd.api.recordings.store.deferToThreadPool", Inline())
    monkeypatch.setattr("pcapd.api.recordings.store._RETRIES", {"max_retries": 0})
    store = Store(Clock(), url, settings)  # type: ignore[arg-type]
    assert store.directories().result == []
    faults.requests.clear()
    return Server(store, faults)


def names(store: Store, prefix: str = "") -> dict[str, int]:
    """The objects, with their bytes."""
    found: list[tuple[str, int, float]] = store.list(prefix).result  # type: ignore[assignment]
    return {name: size for name, size, _ in found}


def test_put_list_get_and_delete(server: Server) -> None:
    """What is stored is listed with its size, is read in parts, and is gone when it is deleted."""
    store, _ = server
    data = secrets.token_bytes(1000)
    for name in ("a/0001/1.pcapng", "a/0001/2.pcapng", "b/0001/1.pcapng"):
        store.put(name, data)
    assert store.directories().result == ["a", "b"]
    assert names(store, "a/") == {"a/0001/1.pcapng": 1000, "a/0001/2.pcapng": 1000}
    assert store.get("a/0001/2.pcapng", 10, 20).result == data[10:30]
    store.delete(["a/0001/1.pcapng", "a/0001/nobody.pcapng"])
    assert names(store) == {"a/0001/2.pcapng": 1000, "b/0001/1.pcapng": 1000}
    for directory in "ab":
        store.clear(f"{directory}/")
    assert names(store) == {}


def test_a_large_clip_is_joined(server: Server) -> None:
    """A clip of several parts is one object with the bytes of its extracts, in their order."""
    store, faults = server
    parts = {f"a/0001/{number}.pcapng": secrets.token_bytes(CLIP_PIECE) for number in range(3)}
    for name, data in parts.items():
        store.put(name, data)
    first, second, third = parts
    faults.requests.clear()
    store.join(
        "a/clips/1.pcapng", [b"head", (first, 7, CLIP_PIECE - 7), (second, 0, CLIP_PIECE), (third, 0, 99)]
    )
    wanted = b"head" + parts[first][7:] + parts[second] + parts[third][:99]
    assert names(store)["a/clips/1.pcapng"] == len(wanted)
    assert store.get("a/clips/1.pcapng", 0, len(wanted)).result == wanted
    assert sum(method == "PUT" for method, _ in faults.requests) > 1
    store.clear("a/")


def test_a_clip_that_fails_does_not_exist(server: Server) -> None:
    """If an extract is gone, or the store refuses, nothing is stored under the clip's name."""
    store, faults = server
    data = secrets.token_bytes(CLIP_PIECE)
    store.put("a/0001/1.pcapng", data)
    whole = ("a/0001/1.pcapng", 0, CLIP_PIECE)
    failures: list[BaseException] = []
    keep = lambda failure: failures.append(failure.value)  # noqa: E731
    store.join("a/clips/1.pcapng", [whole, whole, ("a/0001/2.pcapng", 0, 10)]).addErrback(keep)
    faults.refuse = True
    store.join("a/clips/2.pcapng", [data, data, b"tail"]).addErrback(keep)
    faults.refuse = False
    assert [type(failure) for failure in failures] == [StoreTrouble, StoreTrouble]
    assert names(store) == {"a/0001/1.pcapng": CLIP_PIECE}
    store.clear("a/")
