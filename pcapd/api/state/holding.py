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

from sqlalchemy import Connection, and_, delete, func, insert, select, update
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.api.state.database import Database, clock_us, lock
from pcapd.api.state.rules import Held, lease_runs, need_room
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
        workers: How many processes of this machine are configured to share a database that is a file.

    If `alone`, no other process uses the database: then captures are not counted here, and there is no lease.

    Attributes:
        id: This process, unique for each start.
        alone: Whether no other process uses the database: SQLite, without other workers.
        beats: Called after each renewal.
        holders: How many processes held a lease when this one renewed its own, itself included.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        database: Database,
        name: str,
        captures: Callable[[], list[Held]],
        end: Callable[[str, str], Any],
        *,
        workers: int = 1,
    ) -> None:
        self.id = str(uuid.uuid4())
        self._reactor = reactor
        self._database = database
        self._name = name
        self._captures = captures
        self._end = end
        self._pending: dict[str, Held] = {}  # admitted, and not in `captures` yet
        self._asked: Set[str] = set()  # to end, by other processes
        self._failing = False
        self.alone = database.local and workers == 1
        self.holders = 1
        self.beats: list[Callable[[], None]] = []
        self._caller = LoopingCall(self.beat)
        self._caller.clock = reactor

    # --- the lease ---------------------------------------------------------------

    @property
    def troubled(self) -> bool:
        """Whether new captures are refused: the lease could not be renewed, or the database is silent."""
        return self._failing or self._database.silent

    def start(self) -> None:
        """Take a lease, and renew it every `LEASE_INTERVAL`."""
        if not self.alone:
            self._caller.start(LEASE_INTERVAL).addErrback(lambda _: None)  # `beat` fails never

    def stop(self) -> None:
        """Give the lease up; before the database is stopped."""
        if self._caller.running:
            self._caller.stop()
            self._note(self._database.do(self._give_up))

    def beat(self) -> Deferred[None]:
        """Renew the lease once; fires when it is done, or has failed."""
        held = {one.id: one for one in self._captures()}
        kept = held.keys() | self._pending.keys()
        done = self._database.do(lambda connection: self._renew(connection, held, kept), attempt=True)
        return done.addCallbacks(self._renewed, self._failed).addErrback(self._defect)

    def _renew(
        self, connection: Connection, held: Mapping[str, Held], kept: Set[str]
    ) -> tuple[dict[str, str], int]:
        now = self._hold(connection)
        rows = connection.execute(select(CAPTURES).where(CAPTURES.c.holder == self.id))
        there = {row.id: row for row in rows}
        for id in there.keys() - kept:
            _forget(connection, id)
        for id in held.keys() - there.keys():
            connection.execute(insert(CAPTURES).values(**self._row(held[id])))
        for id in held.keys() & there.keys():
            if there[id].about != held[id].about:
                connection.execute(update(CAPTURES).where(CAPTURES.c.id == id).values(about=held[id].about))
        connection.execute(delete(HOLDERS).where(HOLDERS.c.until_us < now - int(HOLDER_FORGOTTEN * _MICROS)))
        connection.execute(delete(CAPTURES).where(CAPTURES.c.holder.not_in(select(HOLDERS.c.id))))
        ending = {id: there[id].ending for id in held.keys() & there.keys() if there[id].ending}
        live = select(func.count()).select_from(HOLDERS).where(lease_runs(HOLDERS.c.until_us, now))
        return ending, int(connection.execute(live).scalar_one())

    def _hold(self, connection: Connection) -> int:
        """Renew the lease in a transaction, alone; returns the time."""
        lock(connection)
        now = clock_us(connection)
        until = now + int(LEASE * _MICROS)
        mine = HOLDERS.c.id == self.id
        if not connection.execute(update(HOLDERS).where(mine).values(until_us=until)).rowcount:
            connection.execute(insert(HOLDERS).values(id=self.id, name=self._name, until_us=until))
        return now

    def _renewed(self, found: tuple[dict[str, str], int]) -> None:
        ending, self.holders = found
        if self._failing:
            self.log.info("the database answers again")
        self._failing = False
        new = ending.keys() - self._asked
        self._asked = set(ending)
        for id in new:
            self._end(id, ending[id])
        for called in self.beats:
            called()

    def _failed(self, failure: Failure) -> None:
        failure.trap(PcapdError)
        if not self._failing:
            self.log.warn("new captures are refused: {reason}", reason=failure.getErrorMessage())
        self._failing = True

    def _defect(self, failure: Failure) -> None:
        # A lease that is not renewed any longer would be worse than a defect.
        self.log.failure("renewing the lease failed", failure)

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
            # With the lease, which may have ended: what is admitted counts from now on.
            rows = connection.execute(_counting(self._hold(connection)))
            running = [Held(row.id, row.identity, row.unattended) for row in rows]
            need_room(running, wanted, concurrent_captures, per_user)
            connection.execute(insert(CAPTURES).values(**self._row(wanted)))

        self._pending[wanted.id] = wanted

        def failed(failure: Failure) -> Failure:
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
    live = and_(CAPTURES.c.holder == HOLDERS.c.id, lease_runs(HOLDERS.c.until_us, now_us))
    return select(CAPTURES).join(HOLDERS, live)


def _forget(connection: Connection, id: str) -> None:
    connection.execute(delete(CAPTURES).where(CAPTURES.c.id == id))
