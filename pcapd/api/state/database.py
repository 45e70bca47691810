"""The database that api processes share: SQLite by default, or PostgreSQL (https://docs.sqlalchemy.org/).

All statements run on one thread, in the order in which they were asked for.  A server may be silent
for longer than anybody waits: then what was asked for fails in time, and new questions fail at once
until an attempt, such as the next renewal of the lease, is answered again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, insert, select, text
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool

from pcapd.api.state.connecting import engine_of, reason
from pcapd.api.state.tables import META, VERSION
from pcapd.api.state.threads import Threads
from pcapd.errors import ConfigError, StateUnavailable
from pcapd.limits import STATE_TIMEOUT
from pcapd.net.reactor import Reactor

__all__ = ["Database", "check_database", "clock_us", "lock"]

T = TypeVar("T")

#: Version of the tables; an incompatible change increases it.
_SCHEMA: Final = 1
#: Of PostgreSQL's advisory lock: "pcapd" in ASCII.
_LOCK: Final = 0x7063617064


class Database:
    """See the module.

    Args:
        reactor: The reactor.
        url: SQLAlchemy's URL of the database.

    Attributes:
        local: Whether the database is a file of this machine, which is never silent.
        silent: Whether a server did not answer in time, and has not answered since.

    Raises:
        ConfigError: The database cannot be used.  PostgreSQL is asked later: it need not run yet.
    """

    def __init__(self, reactor: Reactor, url: str) -> None:
        self._reactor = reactor
        self._prepared = False
        self.silent = False
        try:
            self._engine = engine_of(url)
            self.local = self._engine.dialect.name == "sqlite"
            if self.local:
                self._prepare()
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise _unusable(error) from error
        self._pool = Threads(1, "state")

    def add_tables(self) -> None:
        """Make the tables that were declared after the database was opened.

        Raises:
            ConfigError: The database cannot be used.
        """
        self._prepared = False
        if self.local:
            try:
                self._prepare()
            except (SQLAlchemyError, OSError) as error:
                raise _unusable(error) from error

    def start(self) -> None:
        """Start the thread."""
        self._pool.start()

    def stop(self) -> None:
        """Wait for the statements under way, and close the database."""
        self._pool.stop()
        self._engine.dispose()

    def do(self, work: Callable[[Connection], T], *, attempt: bool = False) -> Deferred[T]:
        """Do some work as one transaction on the thread.

        Args:
            work: Runs the statements, and returns the result.
            attempt: Whether to try although the database is silent.

        Fails with `pcapd.errors.StateUnavailable` if the database does, or does not answer within
        `STATE_TIMEOUT`; then the work may have been done all the same.
        """
        if self.silent and not attempt:
            return fail(_unavailable("it does not answer"))
        done: Deferred[T] = Deferred()

        def checked() -> T:
            if done.called:
                raise _unavailable("nobody waits any longer")
            return self._transact(work)

        asked: Deferred[T] = deferToThreadPool(self._reactor, self._pool, checked)
        if self.local:
            return asked
        asked.addCallback(self._answered).chainDeferred(done)
        return done.addTimeout(STATE_TIMEOUT, self._reactor, self._late)

    def _answered(self, result: T) -> T:
        self.silent = False
        return result

    def _late(self, result: Any, timeout: float) -> Any:
        self.silent = True
        raise _unavailable(f"no answer within {timeout:g} s")

    # --- on the thread -----------------------------------------------------------

    def _transact(self, work: Callable[[Connection], T]) -> T:
        try:
            if not self._prepared:
                self._prepare()
            with self._connect() as connection, connection.begin():
                return work(connection)
        except (SQLAlchemyError, OSError) as error:
            self._forget_connection()
            raise _unavailable(reason(error)) from error

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except (SQLAlchemyError, OSError):
            raise
        except Exception as error:  # pg8000 expects nothing but a server's answers
            raise OSError("what answers is no PostgreSQL server") from error

    def _forget_connection(self) -> None:
        if not self.local:
            self._engine.dispose()  # a connection whose answer did not come in time is of no use

    def _prepare(self) -> None:
        with self._connect() as connection, connection.begin():
            lock(connection)  # another process may make the tables at the same time
            META.create_all(connection)
            _check_version(connection)
        self._prepared = True


def lock(connection: Connection) -> None:
    """Let transactions of other processes that call this wait until this one has ended."""
    if connection.dialect.name == "postgresql":  # a transaction of SQLite begins with its lock
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def clock_us(connection: Connection) -> int:
    """The time by the database's clock, microseconds since the epoch."""
    if connection.dialect.name == "postgresql":
        wanted = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        return int(connection.execute(wanted).scalar_one())
    return time.time_ns() // 1000


def check_database(url: str) -> None:
    """Check the URL of a database, and whether the file of SQLite can be written; nothing is made.

    Raises:
        ConfigError: It cannot be used.
    """
    try:
        engine = engine_of(url)
        path = Path(engine.url.database or "")
        if engine.dialect.name != "sqlite":
            return
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise OSError(f"{path} cannot be written")
        if path.exists():
            with create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true").connect() as connection:
                _refuse(connection.execute(select(VERSION.c.version)).scalar())
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise _unusable(error) from error


def _check_version(connection: Connection) -> None:
    version = connection.execute(select(VERSION.c.version)).scalar()
    if version is None:
        connection.execute(insert(VERSION).values(version=_SCHEMA))
    _refuse(version)


def _refuse(version: int | None) -> None:
    if version not in (None, _SCHEMA):
        raise OSError(f"the tables have version {version}, and this pcapd needs {_SCHEMA}: upgrade pcapd")


def _unusable(error: BaseException) -> ConfigError:
    return ConfigError("configuration", [f"state: {reason(error)}"])


def _unavailable(why: str) -> StateUnavailable:
    return StateUnavailable(f"the database failed: {why}", "try again later")
