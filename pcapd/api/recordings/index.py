"""The index of recordings, with their segments and clips.  Each method is one transaction.

What the holder of a recording writes has the condition that it still holds it, in the same term: the row of
the recording is locked, and then `pcapd.api.state.rules` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update
from twisted.internet.defer import Deferred

from pcapd.api.recordings.splice import Stored
from pcapd.api.recordings.tables import CLIPS, RECORDINGS, SEGMENTS, Clip, Recording
from pcapd.api.recordings.terms import Outcome, Seen, Survey
from pcapd.api.recordings.values import RUNNING
from pcapd.api.state.database import Database, clock_us, lock
from pcapd.api.state.rules import Term, may_take, may_write
from pcapd.api.state.tables import HOLDERS
from pcapd.errors import Conflict, LimitReached, StateUnavailable

__all__ = ["Clip", "Index", "Recording"]


class Index:
    """See the module.  Every Deferred fails with `pcapd.errors.StateUnavailable` if the database does.

    Args:
        database: The database.
        holder: This process.
        leased: Whether it needs a lease, because other processes use the database too.
    """

    def __init__(self, database: Database, holder: str, *, leased: bool) -> None:
        database.add_tables()  # it was opened before the tables of recordings were imported
        self._do = database.do
        self._holder = holder
        self._leased = leased

    # --- terms -----------------------------------------------------------------

    def claim(self, id: str, epoch: int) -> Deferred[Recording | None]:
        """Begin the next term of a recording; fires with it, or with None if another process holds it.

        Args:
            epoch: The epoch that was seen: if it is another one now, somebody was faster.
        """

        def work(connection: Connection) -> Recording | None:
            lock(connection)  # no lease is renewed meanwhile
            term = _term(connection, id)
            if term is None or term.epoch != epoch or not may_take(term, self._holder, clock_us(connection)):
                return None
            values = {"holder": self._holder, "epoch": epoch + 1}
            connection.execute(update(RECORDINGS).where(RECORDINGS.c.id == id).values(**values))
            row = connection.execute(select(RECORDINGS).where(RECORDINGS.c.id == id)).mappings().one()
            return Recording(**row)

        return self._do(work)

    def claim_ended(self, id: str, epoch: int) -> Deferred[bool]:
        """Like `claim` for a recording that has ended, whoever holds it; fires with success."""
        seen = and_(RECORDINGS.c.id == id, RECORDINGS.c.epoch == epoch, RECORDINGS.c.ended_us.is_not(None))
        statement = update(RECORDINGS).where(seen).values(holder=self._holder, epoch=epoch + 1)
        return self._do(lambda connection: connection.execute(statement).rowcount > 0)

    def release(self, id: str, epoch: int) -> Deferred[Outcome]:
        """Give a recording up, so that another process continues it at once."""
        return self.change(id, epoch, holder=None)

    def release_all(self) -> Deferred[None]:
        """Give up all recordings of this process."""
        mine = update(RECORDINGS).where(RECORDINGS.c.holder == self._holder).values(holder=None)
        return self._do(lambda connection: _none(connection.execute(mine)))

    def survey(self) -> Deferred[Survey]:
        """All recordings that run, and those with clips that are not made yet."""
        opened = CLIPS.c.state == "open"
        columns = RECORDINGS.c
        wanted = (
            select(columns.id, columns.state, columns.ending, *_TERM)
            .outerjoin(HOLDERS, columns.holder == HOLDERS.c.id)
            .where(or_(columns.state.in_(RUNNING), columns.id.in_(select(CLIPS.c.recording).where(opened))))
        )

        def work(connection: Connection) -> Survey:
            clips = [Clip(**row) for row in connection.execute(select(CLIPS).where(opened)).mappings()]
            seen = [
                Seen(row.id, row.state, Term(row.holder, row.epoch, row.until_us), row.ending)
                for row in connection.execute(wanted)
            ]
            return Survey(clock_us(connection), seen, clips, _total(connection))

        return self._do(work)

    def ask_to_end(self, id: str, why: str) -> Deferred[None]:
        """Ask the process that holds a recording to end it."""
        statement = update(RECORDINGS).where(RECORDINGS.c.id == id).values(ending=why)
        return self._do(lambda connection: _none(connection.execute(statement)))

    def _fence(self, connection: Connection, id: str, epoch: int) -> Outcome:
        """Whether this process may write in this term; until the end of the transaction."""
        term = _term(connection, id)
        if term is None:
            return Outcome.GONE
        return Outcome.DONE if may_write(term, self._holder, epoch) else Outcome.LOST

    # --- recordings ------------------------------------------------------------

    def create(self, recording: Recording, per_user: int) -> Deferred[None]:
        """Add a recording, which this process holds.

        Fails with `LimitReached` if its owner has so many that run.
        """
        held = replace(recording, holder=self._holder)
        values = {field.name: getattr(held, field.name) for field in fields(held)}
        owned = and_(RECORDINGS.c.identity == recording.identity, RECORDINGS.c.state.in_(RUNNING))

        def work(connection: Connection) -> None:
            lock(connection)
            if self._leased and not self._live(connection):
                raise StateUnavailable("this api has no lease in the database yet", "try again later")
            running = connection.execute(
                select(func.count()).select_from(RECORDINGS).where(owned)
            ).scalar_one()
            if running >= per_user:
                raise LimitReached(f"you already run {running} recordings", "stop one of them")
            connection.execute(insert(RECORDINGS).values(**values))

        return self._do(work)

    def _live(self, connection: Connection) -> bool:
        mine = and_(HOLDERS.c.id == self._holder, HOLDERS.c.until_us > clock_us(connection))
        return connection.execute(select(HOLDERS.c.id).where(mine)).first() is not None

    def get(self, id: str) -> Deferred[Recording | None]:
        """The recording with this id, if there is one."""

        def work(connection: Connection) -> Recording | None:
            row = connection.execute(select(RECORDINGS).where(RECORDINGS.c.id == id)).mappings().first()
            return None if row is None else Recording(**row)

        return self._do(work)

    def listed(self, identity: str | None = None, states: Sequence[str] = ()) -> Deferred[list[Recording]]:
        """Recordings, the newest first.

        Args:
            identity: Only those of this owner; None for all.
            states: Only those in one of these states; empty for all.
        """
        wanted = select(RECORDINGS).order_by(RECORDINGS.c.since_us.desc())
        if identity is not None:
            wanted = wanted.where(RECORDINGS.c.identity == identity)
        if states:
            wanted = wanted.where(RECORDINGS.c.state.in_(states))
        return self._do(
            lambda connection: [Recording(**row) for row in connection.execute(wanted).mappings()]
        )

    def change(self, id: str, epoch: int, **values: Any) -> Deferred[Outcome]:
        """Change fields of a recording, in a term of this process."""

        def work(connection: Connection) -> Outcome:
            outcome = self._fence(connection, id, epoch)
            if outcome is Outcome.DONE:
                connection.execute(update(RECORDINGS).where(RECORDINGS.c.id == id).values(**values))
            return outcome

        return self._do(work)

    def set_hook(self, id: str, hashed: str) -> Deferred[None]:
        """Replace the key of a recording's hook; any process may."""
        statement = update(RECORDINGS).where(RECORDINGS.c.id == id).values(hook=hashed)
        return self._do(lambda connection: _none(connection.execute(statement)))

    def remove(self, id: str) -> Deferred[int]:
        """Remove a recording, with its segments and clips; fires with their bytes."""

        def work(connection: Connection) -> int:
            size = 0
            _term(connection, id)  # nothing is added meanwhile
            for column, owner in (
                (RECORDINGS.c.bytes, RECORDINGS.c.id),
                (CLIPS.c.bytes, CLIPS.c.recording),
            ):
                size += int(connection.execute(select(func.sum(column)).where(owner == id)).scalar() or 0)
            for table in (SEGMENTS, CLIPS):
                connection.execute(delete(table).where(table.c.recording == id))
            connection.execute(delete(RECORDINGS).where(RECORDINGS.c.id == id))
            return size

        return self._do(work)

    def summary(self) -> Deferred[tuple[dict[str, int], int | None]]:
        """The number of recordings by state, and the time of the earliest packet; None without one."""

        def work(connection: Connection) -> tuple[dict[str, int], int | None]:
            states = select(RECORDINGS.c.state, func.count()).group_by(RECORDINGS.c.state)
            counts = {row[0]: row[1] for row in connection.execute(states)}
            return counts, connection.execute(select(func.min(RECORDINGS.c.first_us))).scalar()

        return self._do(work)

    # --- segments ----------------------------------------------------------------

    def add_segment(self, id: str, segment: Stored, dropped: int) -> Deferred[Outcome]:
        """Add a stored segment, and count it in its recording, in the term of its epoch.

        A segment that is there already is not added again: the database may have failed after it was added.

        Args:
            dropped: Packets that were lost since the recording's start.
        """

        def work(connection: Connection) -> Outcome:
            mine = RECORDINGS.c.id == id
            outcome = self._fence(connection, id, segment.epoch)
            if outcome is Outcome.GONE:
                return outcome
            if connection.execute(select(SEGMENTS.c.size).where(_is(id, segment))).first() is not None:
                return Outcome.DONE
            if outcome is Outcome.LOST:
                return outcome
            row = connection.execute(select(RECORDINGS).where(mine)).mappings().one()
            values = {field.name: getattr(segment, field.name) for field in fields(segment)}
            connection.execute(insert(SEGMENTS).values(recording=id, **values))
            connection.execute(
                update(RECORDINGS)
                .where(mine)
                .values(
                    first_us=segment.first_us if row["first_us"] is None else row["first_us"],
                    last_us=segment.last_us,
                    bytes=row["bytes"] + segment.size,
                    packets=row["packets"] + segment.packets,
                    dropped=dropped,
                )
            )
            return Outcome.DONE

        return self._do(work)

    def segments(
        self, id: str, from_us: int | None = None, to_us: int | None = None
    ) -> Deferred[list[Stored]]:
        """The segments of a recording that touch a time, in order."""
        wanted = select(*(SEGMENTS.c[name] for name in _STORED)).where(SEGMENTS.c.recording == id)
        if from_us is not None:
            wanted = wanted.where(SEGMENTS.c.last_us >= from_us)
        if to_us is not None:
            wanted = wanted.where(SEGMENTS.c.first_us <= to_us)
        wanted = wanted.order_by(SEGMENTS.c.epoch, SEGMENTS.c.number)

        def work(connection: Connection) -> list[Stored]:
            return [Stored(*row) for row in connection.execute(wanted)]

        return self._do(work)

    def drop_segments(self, id: str, epoch: int, segments: Sequence[Stored]) -> Deferred[int | None]:
        """Remove segments that are not kept any longer, and count their packets as deleted.

        Fires with the bytes of those that were still there; None if this term has ended.
        """

        def work(connection: Connection) -> int | None:
            if self._fence(connection, id, epoch) is not Outcome.DONE:
                return None
            gone = [
                one
                for one in segments
                if connection.execute(delete(SEGMENTS).where(_is(id, one))).rowcount > 0
            ]
            first = connection.execute(
                select(func.min(SEGMENTS.c.first_us)).where(SEGMENTS.c.recording == id)
            ).scalar()
            size, packets = sum(one.size for one in gone), sum(one.packets for one in gone)
            connection.execute(
                update(RECORDINGS)
                .where(RECORDINGS.c.id == id)
                .values(
                    first_us=first,
                    bytes=RECORDINGS.c.bytes - size,
                    packets=RECORDINGS.c.packets - packets,
                    deleted_bytes=RECORDINGS.c.deleted_bytes + size,
                    deleted_packets=RECORDINGS.c.deleted_packets + packets,
                )
            )
            return size

        return self._do(work)

    # --- clips -------------------------------------------------------------------

    def add_clip(self, clip: Clip) -> Deferred[Clip]:
        """Add a clip under the recording's next number; fires with it.

        Fails with `Conflict` if the recording was deleted.
        """

        def work(connection: Connection) -> Clip:
            if _term(connection, clip.recording) is None:
                raise Conflict("the recording was deleted")
            last = connection.execute(
                select(func.max(CLIPS.c.number)).where(CLIPS.c.recording == clip.recording)
            ).scalar()
            numbered = replace(clip, number=(last or 0) + 1)
            values = {field.name: getattr(numbered, field.name) for field in fields(numbered)}
            connection.execute(insert(CLIPS).values(**values))
            return numbered

        return self._do(work)

    def change_clip(self, clip: Clip, **values: Any) -> Deferred[Outcome]:
        """Change fields of a clip; only for the holder of its recording, in the term in which it was made."""
        mine = and_(CLIPS.c.recording == clip.recording, CLIPS.c.number == clip.number)

        def work(connection: Connection) -> Outcome:
            term = _term(connection, clip.recording)
            if term is None:
                return Outcome.GONE
            if not may_write(term, self._holder, clip.epoch or term.epoch):
                return Outcome.LOST
            connection.execute(update(CLIPS).where(mine).values(**values))
            return Outcome.DONE

        return self._do(work)

    def clips(self, ids: Sequence[str]) -> Deferred[dict[str, list[Clip]]]:
        """The clips of recordings, by their id, in order."""

        def work(connection: Connection) -> dict[str, list[Clip]]:
            found: dict[str, list[Clip]] = {id: [] for id in ids}
            wanted = select(CLIPS).where(CLIPS.c.recording.in_(ids)).order_by(CLIPS.c.number)
            for row in connection.execute(wanted).mappings():
                found[row["recording"]].append(Clip(**row))
            return found

        return self._do(work)


def _is(id: str, segment: Stored) -> ColumnElement[bool]:
    """The condition for the row of a segment."""
    columns = SEGMENTS.c
    same = and_(columns.epoch == segment.epoch, columns.number == segment.number)
    return and_(columns.recording == id, same)


def _term(connection: Connection, id: str) -> Term | None:
    """The term of a recording, whose row is locked until the end of the transaction; None without one."""
    held = select(*_TERM).outerjoin(HOLDERS, RECORDINGS.c.holder == HOLDERS.c.id)
    row = connection.execute(held.where(RECORDINGS.c.id == id).with_for_update(of=RECORDINGS)).first()
    return None if row is None else Term(row.holder, row.epoch, row.until_us)


def _total(connection: Connection) -> int:
    segments = connection.execute(select(func.sum(RECORDINGS.c.bytes))).scalar() or 0
    clips = connection.execute(select(func.sum(CLIPS.c.bytes))).scalar() or 0
    return int(segments) + int(clips)


_TERM: Final = (RECORDINGS.c.holder, RECORDINGS.c.epoch, HOLDERS.c.until_us)
_STORED: Final = tuple(field.name for field in fields(Stored))


def _none(_: object) -> None:
    return None
