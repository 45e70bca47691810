"""This process as a holder: its lease, and the captures that count for it.

The limits hold over all processes that share the database, because a capture is admitted in a
transaction that counts the captures of all holders.  A holder whose lease ends, because it died or
because the database is away, counts no longer; when it renews its lease, its captures count again.
So a limit is exceeded by no more than the captures of holders that could not renew their leases.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Set
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, update
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pcapd.api.state.database import Database, clock_us, lock
from pcapd.api.state.rules import Held, need_room
from pcapd.api.state.tables import CAPTURES, HOLDERS
from pcapd.errors import PcapdError
from pcapd.limits import HOLDER_FORGOTTEN, LEASE, LEASE_INTERVAL
from pcapd.net.reactor import Reactor

__all__ = ["Holding"]

_MICROS = 1_000_000


class Holding:
    """See the module.

    Args:
        reactor: The reactor.
        database: The database.
        name: Of the api, for people.
        captures: Returns the captures that run in this process.
        end: Ends one of them: id, and why.

    If `alone`, no other process uses the database: then captures are not counted here, and there is no lease.

    Attributes:
        id: This process, unique for each start.
        troubled: Whether the lease could not be renewed the last time.
        beats: Called after each renewal.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        database: Database,
        name: str,
        captures: Callable[[], list[Held]],
        end: Callable[[str, str], None],
    ) -> None:
        self.id = str(uuid.uuid4())
        self._reactor = reactor
        self._database = database
        self._name = name
        self._captures = captures
        self._end = end
        self._pending: dict[str, Held] = {}  # admitted, and not in `captures` yet
        self.troubled = False
        self.beats: list[Callable[[], None]] = []
        self._caller = LoopingCall(self.beat)
        self._caller.clock = reactor

    # --- the lease ---------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether no other process uses the database: SQLite, without other workers."""
        return self._database.local

    def start(self) -> None:
        """Take a lease, and renew it every `LEASE_INTERVAL`."""
        if not self.alone:
            self._caller.start(LEASE_INTERVAL)

    def stop(self) -> None:
        """Give the lease up; before the database is stopped."""
        if self._caller.running:
            self._caller.stop()
            self._note(self._database.do(self._give_up))

    def beat(self) -> Deferred[None]:
        """Renew the lease once; fires when it is done, or has failed."""
        held = {one.id: one for one in self._captures()}
        kept = held.keys() | self._pending.keys()
        return self._database.do(lambda connection: self._renew(connection, held, kept)).addCallbacks(
            self._renewed, self._failed
        )

    def _renew(
        self, connection: Connection, held: Mapping[str, Held], kept: Set[str]
    ) -> list[tuple[str, str]]:
        lock(connection)
        now = clock_us(connection)
        until = now + int(LEASE * _MICROS)
        mine = HOLDERS.c.id == self.id
        if not connection.execute(update(HOLDERS).where(mine).values(until_us=until)).rowcount:
            connection.execute(insert(HOLDERS).values(id=self.id, name=self._name, until_us=until))
        rows = connection.execute(select(CAPTURES).where(CAPTURES.c.holder == self.id))
        there = {row.id: row for row in rows}
        for id in there.keys() - kept:
            _forget(connection, id)
        for id in held.keys() - there.keys():
            connection.execute(insert(CAPTURES).values(**self._row(held[id])))
        for id in held.keys() & there.keys():
            if there[id].about != held[id].about:
                connection.execute(update(CAPTURES).where(CAPTURES.c.id == id).values(about=held[id].about))
        forgotten = select(HOLDERS.c.id).where(HOLDERS.c.until_us < now - int(HOLDER_FORGOTTEN * _MICROS))
        connection.execute(delete(CAPTURES).where(CAPTURES.c.holder.in_(forgotten)))
        connection.execute(delete(HOLDERS).where(HOLDERS.c.until_us < now - int(HOLDER_FORGOTTEN * _MICROS)))
        return [(id, there[id].ending) for id in held.keys() & there.keys() if there[id].ending]

    def _renewed(self, ending: list[tuple[str, str]]) -> None:
        if self.troubled:
            self.log.info("the database answers again")
        self.troubled = False
        for id, why in ending:
            self._end(id, why)
        for called in self.beats:
            called()

    def _failed(self, failure: Any) -> None:
        failure.trap(PcapdError)
        if not self.troubled:
            self.log.warn("new captures are refused: {reason}", reason=failure.getErrorMessage())
        self.troubled = True

    def _give_up(self, connection: Connection) -> None:
        connection.execute(delete(CAPTURES).where(CAPTURES.c.holder == self.id))
        connection.execute(delete(HOLDERS).where(HOLDERS.c.id == self.id))

    def _row(self, held: Held) -> dict[str, Any]:
        return {
            "id": held.id,
            "holder": self.id,
            "identity": held.identity,
            "unattended": held.unattended,
            "about": dict(held.about),
            "ending": "",
        }

    # --- captures ----------------------------------------------------------------

    def admit(self, wanted: Held, concurrent_captures: int, per_user: int) -> Deferred[None]:
        """Count one more capture.

        Call `settled` when the capture runs or will not run.  Fails with `pcapd.errors.LimitReached` if a
        limit is reached, and with `pcapd.errors.StateUnavailable` if the database fails.
        """

        def work(connection: Connection) -> None:
            lock(connection)
            rows = connection.execute(_counting(clock_us(connection)))
            running = [Held(row.id, row.identity, row.unattended) for row in rows]
            need_room(running, wanted, concurrent_captures, per_user)
            connection.execute(insert(CAPTURES).values(**self._row(wanted)))

        self._pending[wanted.id] = wanted

        def failed(failure: Any) -> Any:
            self.settled(wanted.id)
            return failure

        return self._database.do(work).addErrback(failed)

    def settled(self, id: str) -> None:
        """Note that an admitted capture is among the captures of this process, or will not run."""
        self._pending.pop(id, None)

    def ended(self, id: str) -> None:
        """Count a capture no longer."""
        self.settled(id)
        if not self.alone:
            self._note(self._database.do(lambda connection: _forget(connection, id)))

    def others(self) -> Deferred[list[Held]]:
        """The captures that run in other processes."""

        def work(connection: Connection) -> list[Held]:
            wanted = _counting(clock_us(connection)).where(CAPTURES.c.holder != self.id)
            return [
                Held(row.id, row.identity, row.unattended, row.about) for row in connection.execute(wanted)
            ]

        return self._database.do(work)

    def ask_to_end(self, id: str, why: str) -> Deferred[None]:
        """Ask the process that holds a capture to end it; it does so when it next renews its lease."""

        def work(connection: Connection) -> None:
            connection.execute(update(CAPTURES).where(CAPTURES.c.id == id).values(ending=why))

        return self._database.do(work)

    def _note(self, done: Deferred[Any]) -> None:
        # What fails here is put right when the lease is renewed.
        done.addErrback(lambda failure: failure.trap(PcapdError) and None)


def _counting(now_us: int) -> Any:
    """The statement that finds the captures of all holders whose leases have not ended."""
    live = and_(CAPTURES.c.holder == HOLDERS.c.id, HOLDERS.c.until_us > now_us)
    return select(CAPTURES).join(HOLDERS, live)


def _forget(connection: Connection, id: str) -> None:
    connection.execute(delete(CAPTURES).where(CAPTURES.c.id == id))
