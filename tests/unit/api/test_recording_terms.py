"""Who records what: on SQLite and on PostgreSQL, one process at a time, and a late one is refused."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from tests.kit.lab.postgres import Postgres
from tests.kit.unit.recordings import Inline

pytest.importorskip("obstore", reason="obstore is not installed")

from sqlalchemy import insert, update

from pcapd.api.recordings.index import Index
from pcapd.api.recordings.splice import Stored
from pcapd.api.recordings.tables import Clip, Recording
from pcapd.api.recordings.takeover import Takeover
from pcapd.api.recordings.terms import Outcome, Review, Seen, Survey, review
from pcapd.api.state.database import Database, clock_us
from pcapd.api.state.rules import Term
from pcapd.api.state.tables import HOLDERS
from pcapd.errors import LimitReached, StateUnavailable
from pcapd.limits import LEASE, LEASE_INTERVAL

RECORDING = Recording("one", "static:alice", "alice", "", {}, [], "recording", 5)
SEGMENT = Stored(1, 1, 10, 19, 100, 50, 2)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One server for the module."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database of each kind, whose work is done at once."""
    monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", Inline())
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    server: Postgres = request.getfixturevalue("server")
    server.clear()
    return server.url


class Process:
    """A process with a lease."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.database = Database(Clock(), url)  # type: ignore[arg-type]
        self.index = Index(self.database, name, leased=True)
        self.database.do(
            lambda connection: connection.execute(insert(HOLDERS).values(id=name, name=name, until_us=0))
        )
        self.renew()

    def renew(self, seconds: float = LEASE) -> None:
        """Let the lease end so long from now."""

        def work(connection: Any) -> None:
            until = clock_us(connection) + int(seconds * 1_000_000)
            connection.execute(update(HOLDERS).where(HOLDERS.c.id == self.name).values(until_us=until))

        now(self.database.do(work))


@pytest.fixture
def pair(url: str) -> Iterator[tuple[Process, Process]]:
    """Two processes; the first one records."""
    made = Process(url, "first"), Process(url, "second")
    now(made[0].index.create(RECORDING, 3))
    yield made
    for one in made:
        one.database.stop()


def now(deferred: defer.Deferred[Any]) -> Any:
    """The result of what was done at once."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    (result,) = found
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def test_a_claim(pair: tuple[Process, Process]) -> None:
    """Nobody takes what a living process holds; afterwards each term has one holder, and a new epoch."""
    first, second = pair
    assert now(second.index.claim("one", 1)) is None
    first.renew(-1)
    taken = now(second.index.claim("one", 1))
    assert (taken.holder, taken.epoch) == ("second", 2)
    assert now(first.index.claim("one", 1)) is None
    assert now(first.index.claim("one", 2)) is None
    assert now(second.index.release("one", 2)) is Outcome.DONE
    assert now(first.index.claim("one", 1)) is None  # it saw the recording before the second one had it
    assert now(first.index.claim("one", 2)).epoch == 3
    now(first.index.release_all())
    assert now(second.index.claim("one", 3)).epoch == 4
    assert now(second.index.claim("deleted", 1)) is None


def test_a_late_holder_writes_nothing(pair: tuple[Process, Process]) -> None:
    """Whatever it writes in its term after that has ended is refused; what was there before is there."""
    first, second = pair
    assert now(first.index.add_segment("one", SEGMENT, 7)) is Outcome.DONE
    clip = now(first.index.add_clip(Clip("one", 0, "crash", 1, 2)))
    first.renew(-1)
    assert now(second.index.claim("one", 1))
    before = now(second.index.get("one")), now(second.index.clips(["one"]))
    assert now(first.index.add_segment("one", SEGMENT, 9)) is Outcome.DONE  # the answer had been lost
    for again in (dataclasses.replace(SEGMENT, number=2), dataclasses.replace(SEGMENT, epoch=2)):
        assert now(first.index.add_segment("one", again, 9)) is Outcome.LOST
    assert now(first.index.change("one", 1, state="failed")) is Outcome.LOST
    assert now(first.index.drop_segments("one", 1, [SEGMENT])) is None
    assert now(first.index.change_clip(clip, state="failed")) is Outcome.LOST
    assert now(first.index.release("one", 1)) is Outcome.LOST
    first.renew()  # it lives again, and has still lost its term
    assert now(first.index.change("one", 1, state="failed")) is Outcome.LOST
    assert (now(second.index.get("one")), now(second.index.clips(["one"]))) == before
    assert now(second.index.add_segment("one", dataclasses.replace(SEGMENT, epoch=2), 9)) is Outcome.DONE


def test_claims_at_the_same_time(url: str) -> None:
    """Of eight processes that claim at once, one begins the term."""
    owner = Process(url, "owner")
    now(owner.index.create(RECORDING, 3))
    owner.renew(-1)
    processes = [Process(url, f"process-{number}") for number in range(8)]
    together = threading.Barrier(len(processes))
    won: list[str] = []

    def claim(one: Process) -> None:
        together.wait()
        if now(one.index.claim("one", 1)) is not None:
            won.append(one.name)

    threads = [threading.Thread(target=claim, args=(one,)) for one in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = now(owner.index.get("one"))
    assert ([found.holder], found.epoch) == (won, 2)
    for one in (owner, *processes):
        one.database.stop()


def test_recordings_of_a_user_are_counted_over_all(pair: tuple[Process, Process]) -> None:
    """Recordings that nobody records at present count too; and a process without a lease begins none."""
    first, second = pair
    now(second.index.create(dataclasses.replace(RECORDING, id="two"), 2))
    now(second.index.release_all())
    for one in pair:
        with pytest.raises(LimitReached, match=r"2 recordings"):
            now(one.index.create(dataclasses.replace(RECORDING, id="three"), 2))
    now(first.index.change("one", 1, state="stopped"))
    first.renew(-1)
    with pytest.raises(StateUnavailable, match="no lease"):
        now(first.index.create(dataclasses.replace(RECORDING, id="three"), 2))
    now(second.index.create(dataclasses.replace(RECORDING, id="three"), 2))


def test_one_deletes_what_has_expired(pair: tuple[Process, Process]) -> None:
    """Of two that sweep at the same time, one has the right to delete, although the holder lives."""
    first, second = pair
    assert not now(second.index.claim_ended("one", 1))
    now(first.index.change("one", 1, state="stopped", ended_us=9))
    assert [now(one.index.claim_ended("one", 1)) for one in (second, first)] == [True, False]


def test_a_survey(pair: tuple[Process, Process]) -> None:
    """A process sees what runs, what has clips that are not made yet, and all bytes."""
    first, second = pair
    now(first.index.add_segment("one", SEGMENT, 0))
    now(second.index.create(dataclasses.replace(RECORDING, id="two", state="stopped"), 9))
    now(second.index.create(dataclasses.replace(RECORDING, id="three", state="stopped"), 9))
    clip = now(second.index.add_clip(Clip("two", 0, "crash", 1, 2, 30)))
    now(second.index.ask_to_end("one", "stopped by its owner"))
    survey = now(second.index.survey())
    found = {one.id: (one.state, one.term.holder, one.term.epoch, one.ending) for one in survey.seen}
    assert found == {
        "one": ("recording", "first", 1, "stopped by its owner"),
        "two": ("stopped", "second", 1, ""),
    }
    assert (survey.clips, survey.bytes) == ([clip], 130)
    assert all(one.term.until_us > survey.now_us for one in survey.seen)


# --- what a process does about it ----------------------------------------------

AT = 1_000_000


def seen(id: str, holder: str | None, until: int | None, epoch: int = 1, **more: str) -> Seen:
    return Seen(id, more.get("state", "recording"), Term(holder, epoch, until), more.get("ending", ""))


@pytest.mark.parametrize(
    ("one", "held", "settled", "expected"),
    [
        (seen("r", "me", AT + 9), {"r": 1}, True, {}),
        (seen("r", "me", AT - 9), {"r": 1}, True, {}),
        (None, {"r": 1}, True, {"gone": ["r"]}),
        (seen("r", "you", AT + 9, 2), {"r": 1}, True, {"lost": ["r"]}),
        (seen("r", "me", AT + 9, 3), {"r": 1}, True, {"lost": ["r"]}),
        (seen("r", None, None), {"r": 1}, True, {"lost": ["r"]}),
        (seen("r", "me", AT + 9, ending="so"), {"r": 1}, True, {"ending": {"r": "so"}}),
        (seen("r", "you", AT + 9, ending="so"), {}, True, {}),
        (seen("r", "you", AT - 9), {}, True, {"free": ["r"]}),
        (seen("r", "you", AT - 9), {}, False, {}),
        (seen("r", None, None), {}, False, {"free": ["r"]}),
        (seen("r", "you", None), {}, False, {"free": ["r"]}),
        (seen("r", "me", AT + 9), {}, False, {"free": ["r"]}),
        (seen("r", "me", AT + 9, state="stopped"), {}, True, {}),
        (seen("r", "you", AT - 9, state="stopped"), {}, True, {"free": ["r"]}),
        (seen("busy", None, None), {}, True, {}),
    ],
    ids=[
        "mine",
        "mine, and my lease has ended",
        "deleted",
        "taken over",
        "taken over and mine again",
        "given up",
        "to be ended",
        "to be ended by another",
        "of a dead process",
        "of a process that may only be slow",
        "of nobody",
        "of a process that ended in good order",
        "mine, and I do not know it: an answer was lost",
        "ended here, with an open clip",
        "ended, with an open clip of a dead process",
        "begun at present",
    ],
)
def test_review(one: Seen | None, held: dict[str, int], settled: bool, expected: dict[str, Any]) -> None:
    """What a process has to do about a recording that it has seen."""
    found = review(Survey(AT, [one] if one else [], [], 0), "me", held, {"busy"}, settled=settled)
    shown = Review(found.gone, found.lost, found.ending, found.clips, [one.id for one in found.free])  # type: ignore[misc]
    assert shown == Review(**{"gone": [], "lost": [], "ending": {}, "clips": [], "free": [], **expected})


class House:
    """Recordings that note what is free."""

    def __init__(self) -> None:
        self.terms: dict[str, int] = {}
        self.taken: list[str] = []
        self.index = self.room = self.clips = self.chores = self.resuming = self

    def survey(self) -> defer.Deferred[Survey]:
        return defer.succeed(Survey(AT, [seen("r", "dead", AT - 9)], [], 7))

    async def write(self) -> None:
        """There is nothing."""

    async def make(self, clips: Any) -> None:
        assert not clips

    def busy(self) -> set[str]:
        return set()

    def take(self, free: list[Seen]) -> None:
        self.taken += [one.id for one in free]


class Holding:
    """A process that shares its database."""

    id = "me"
    alone = False
    troubled = False

    def __init__(self) -> None:
        self.beats: list[Any] = []

    def beat(self) -> None:
        for called in self.beats:
            called()


def test_others_have_time_to_renew_their_leases() -> None:
    """After a start or a silence of the database nothing is taken from a process for the time of a lease."""
    clock, house, holding = Clock(), House(), Holding()
    takeover = Takeover(clock, holding, house)  # type: ignore[arg-type]
    takeover.start()

    def time_until_taken() -> float:
        house.taken.clear()
        began = clock.seconds()
        while not house.taken:
            if (clock.seconds() - began) % LEASE_INTERVAL == 0:
                holding.beat()
            clock.advance(1.0)
        return clock.seconds() - began

    clock.pump([1.0] * 60)
    assert not house.taken  # it has no lease itself
    assert LEASE <= time_until_taken() <= LEASE + 2
    assert time_until_taken() <= 2
    holding.troubled = True
    clock.pump([1.0] * 60)
    holding.troubled = False
    assert LEASE <= time_until_taken() <= LEASE + 2
    house.taken.clear()
    clock.advance(60.0)  # the whole machine slept
    assert not house.taken
    assert LEASE <= time_until_taken() <= LEASE + 2
    takeover.stop()
