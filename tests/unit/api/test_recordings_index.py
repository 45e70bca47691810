"""The index of recordings: its sums are right whatever fails, and other versions are refused."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path
from typing import Any, Iterator

import pytest
from twisted.internet.task import Clock

from pcapd.api.recordings.splice import Stored
from pcapd.config.schema import RecordingsConfig
from pcapd.errors import ConfigError, StateUnavailable
from tests.kit.unit.recordings import Inline

pytest.importorskip("obstore", reason="obstore is not installed")

from pcapd.api.recordings.index import Index
from pcapd.api.recordings.optional import check_recordings
from pcapd.api.recordings.tables import Clip, Recording
from pcapd.api.state.database import Database, check_database
from pcapd.api.state.optional import check_state


def recording(id: str = "one", **changed: Any) -> Recording:
    """A recording of alice."""
    given = Recording(id, "static:alice", "alice", "", {"targets": ["web-0"]}, [], "recording", 5)
    return dataclasses.replace(given, **changed)


def segment(number: int, size: int = 100) -> Stored:
    """A segment of two packets."""
    return Stored(1, number, number * 10, number * 10 + 9, size, 50, 2)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index with one recording."""
    monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", Inline())
    database = Database(Clock(), f"sqlite:///{tmp_path}/state.db")  # type: ignore[arg-type]
    made = Index(database)
    made.create(recording())
    yield made
    database.stop()


def now(deferred: Any) -> Any:
    """The result of what was done at once."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    (result,) = found
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def sums(index: Index) -> tuple[int, int, int, int, int | None]:
    found = now(index.get("one"))
    return found.bytes, found.packets, found.deleted_bytes, found.deleted_packets, found.first_us


def test_segments_are_counted_once(index: Index) -> None:
    """A segment that is added again, because the answer of the database was lost, counts once."""
    assert now(index.add_segment("one", segment(1), 7))
    assert now(index.add_segment("one", segment(1), 7))
    assert sums(index) == (100, 2, 0, 0, 10)
    assert now(index.get("one")).dropped == 7
    assert not now(index.add_segment("deleted", segment(1), 0))
    assert now(index.segments("deleted")) == []


def test_dropping_is_counted_once(index: Index) -> None:
    """Only segments that were there are subtracted, however many."""
    chosen = [segment(number) for number in range(1, 3001)]
    for one in chosen:
        now(index.add_segment("one", one, 0))
    assert now(index.drop_segments("one", chosen[:2500])) == 250_000
    assert now(index.drop_segments("one", chosen[:2501])) == 100
    assert sums(index) == (49_900, 998, 250_100, 5002, 25_020)
    assert now(index.total()) == 49_900
    assert now(index.remove("one")) == 49_900
    assert now(index.total()) == 0 and now(index.remove("one")) == 0


def test_a_clip_counts(index: Index) -> None:
    """The total and what deleting frees contain clips."""
    now(index.add_segment("one", segment(1), 0))
    now(index.add_clip(Clip("one", 0, "crash", 1, 2, 30)))
    assert now(index.total()) == now(index.remove("one")) == 130


@pytest.mark.parametrize(
    ("from_us", "to_us", "expected"),
    [(None, None, [1, 2, 3]), (20, None, [2, 3]), (None, 19, [1]), (19, 20, [1, 2]), (40, None, [])],
)
def test_segments_of_a_time(
    index: Index, from_us: int | None, to_us: int | None, expected: list[int]
) -> None:
    """Segments that touch the time are found, in order."""
    for number in (1, 2, 3):
        now(index.add_segment("one", segment(number), 0))
    assert [one.number for one in now(index.segments("one", from_us, to_us))] == expected


def test_lists(index: Index) -> None:
    """Recordings by owner and state, the newest first; and their number by state."""
    now(index.create(recording("two", since_us=9, state="stopped", first_us=3)))
    now(index.create(recording("three", since_us=7, identity="static:bob", state="failed", first_us=8)))
    assert [one.id for one in now(index.listed())] == ["two", "three", "one"]
    assert [one.id for one in now(index.listed("static:alice"))] == ["two", "one"]
    assert [one.id for one in now(index.listed(states=("stopped", "failed")))] == ["two", "three"]
    assert now(index.summary()) == ({"recording": 1, "stopped": 1, "failed": 1}, 3)


def test_trouble_names_no_values(index: Index) -> None:
    """A statement that fails is told without its values."""
    with pytest.raises(StateUnavailable, match=r"the database failed") as caught:
        now(index.create(recording()))
    assert "alice" not in str(caught.value)


def test_another_version(index: Index, tmp_path: Path) -> None:
    """A database of a newer version is refused, with what to do; also by --check-config."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE pcapd_schema SET version = 99")
    for attempt in (
        lambda: Database(Clock(), f"sqlite:///{path}"),
        lambda: check_database(f"sqlite:///{path}"),
    ):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"version 99.*upgrade pcapd"):
            attempt()


@pytest.mark.parametrize(
    ("store", "state", "problem"),
    [
        ("file:///store", "sqlite:////state.db", None),
        ("file:///file/below", "sqlite:////state.db", r"recordings.store: .*/file"),
        ("file:///store", "sqlite:////missing/state.db", r"state: .*cannot be written"),
        ("file:///store", "nonsense://x/y", r"state: .*nonsense"),
        ("s3://bucket/prefix", "sqlite:////state.db", None),
    ],
    ids=["good", "store below a file", "no directory", "unknown database", "bucket"],
)
def test_the_check_of_the_configuration(tmp_path: Path, store: str, state: str, problem: str | None) -> None:
    """Problems are found before the start, and nothing is made."""
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    root = str(tmp_path).lstrip("/")
    config = RecordingsConfig(store.replace("file:///", f"file:///{root}/"))

    def check() -> None:
        check_state(state.replace("sqlite:////", f"sqlite:////{root}/"))
        check_recordings(config)

    if problem is None:
        check()
    else:
        with pytest.raises(ConfigError, match=problem):
            check()
    assert sorted(tmp_path.iterdir()) == before
