"""The index of recordings, with their segments and clips.  Each method is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update
from twisted.internet.defer import Deferred

from pcapd.api.recordings.splice import Stored
from pcapd.api.recordings.tables import CLIPS, RECORDINGS, SEGMENTS, Clip, Recording
from pcapd.api.state.database import Database

__all__ = ["Clip", "Index", "Recording"]


class Index:
    """See the module.  Every Deferred fails with `pcapd.errors.StateUnavailable` if the database does."""

    def __init__(self, database: Database) -> None:
        database.add_tables()  # it was opened before the tables of recordings were imported
        self._do = database.do

    # --- recordings ------------------------------------------------------------

    def create(self, recording: Recording) -> Deferred[None]:
        """Add a recording."""
        values = {field.name: getattr(recording, field.name) for field in fields(recording)}
        return self._do(lambda connection: _none(connection.execute(insert(RECORDINGS).values(**values))))

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

    def change(self, id: str, **values: Any) -> Deferred[None]:
        """Change fields of a recording."""
        statement = update(RECORDINGS).where(RECORDINGS.c.id == id).values(**values)
        return self._do(lambda connection: _none(connection.execute(statement)))

    def remove(self, id: str) -> Deferred[int]:
        """Remove a recording, with its segments and clips; fires with their bytes."""

        def work(connection: Connection) -> int:
            size = 0
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

    def total(self) -> Deferred[int]:
        """Bytes of all segments and clips."""

        def work(connection: Connection) -> int:
            segments = connection.execute(select(func.sum(RECORDINGS.c.bytes))).scalar() or 0
            clips = connection.execute(select(func.sum(CLIPS.c.bytes))).scalar() or 0
            return int(segments) + int(clips)

        return self._do(work)

    # --- segments ----------------------------------------------------------------

    def add_segment(self, id: str, segment: Stored, dropped: int) -> Deferred[bool]:
        """Add a stored segment, and count it in its recording; fires with whether the recording exists.

        A segment that is there already is not added again: the database may have failed after it was added.

        Args:
            dropped: Packets that were lost since the recording's start.
        """

        def work(connection: Connection) -> bool:
            mine = RECORDINGS.c.id == id
            row = connection.execute(select(RECORDINGS).where(mine)).mappings().first()
            if row is None:
                return False
            if connection.execute(select(SEGMENTS.c.size).where(_is(id, segment))).first() is not None:
                return True
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
            return True

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

    def drop_segments(self, id: str, segments: Sequence[Stored]) -> Deferred[int]:
        """Remove segments that are not kept any longer, and count their packets as deleted.

        Fires with the bytes of those that were still there.
        """

        def work(connection: Connection) -> int:
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
        """Add a clip under the recording's next number; fires with it."""

        def work(connection: Connection) -> Clip:
            last = connection.execute(
                select(func.max(CLIPS.c.number)).where(CLIPS.c.recording == clip.recording)
            ).scalar()
            numbered = replace(clip, number=(last or 0) + 1)
            values = {field.name: getattr(numbered, field.name) for field in fields(numbered)}
            connection.execute(insert(CLIPS).values(**values))
            return numbered

        return self._do(work)

    def change_clip(self, clip: Clip, **values: Any) -> Deferred[bool]:
        """Change fields of a clip; fires with whether it still exists."""
        statement = (
            update(CLIPS)
            .where(CLIPS.c.recording == clip.recording, CLIPS.c.number == clip.number)
            .values(**values)
        )
        return self._do(lambda connection: connection.execute(statement).rowcount > 0)

    def open_clips(self) -> Deferred[list[Clip]]:
        """The clips of all recordings whose objects are not stored yet."""
        wanted = select(CLIPS).where(CLIPS.c.state == "open").order_by(CLIPS.c.recording, CLIPS.c.number)
        return self._do(lambda connection: [Clip(**row) for row in connection.execute(wanted).mappings()])

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


_STORED: Final = tuple(field.name for field in fields(Stored))


def _none(_: object) -> None:
    return None
