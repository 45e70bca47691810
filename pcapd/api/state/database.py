"""The database that api processes share: SQLite by default, or PostgreSQL (https://docs.sqlalchemy.org/).

All statements run on one thread, in the order in which they were asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event, insert, select, text
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

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

    Raises:
        ConfigError: The database cannot be used.  PostgreSQL is asked later: it need not run yet.
    """

    def __init__(self, reactor: Reactor, url: str) -> None:
        self._reactor = reactor
        self._prepared = False
        try:
            self._engine = create_engine(url, **_options(url))
            #: Whether the database is a file of this machine.
            self.local = self._engine.dialect.name == "sqlite"
            if self.local:
                event.listen(self._engine, "connect", _set_up_sqlite)
                event.listen(self._engine, "begin", _begin_sqlite)
                self._prepare()
                # And once more before the first work: the tables of recordings are not imported yet.
                self._prepared = False
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise ConfigError("configuration", [f"state: {_reason(error)}"]) from error
        self._pool = Threads(1, "state")

    def start(self) -> None:
        """Start the thread."""
        self._pool.start()

    def stop(self) -> None:
        """Wait for the statements under way, and close the database."""
        self._pool.stop()
        self._engine.dispose()

    def do(self, work: Callable[[Connection], T]) -> Deferred[T]:
        """Do some work as one transaction on the thread.

        Fails with `pcapd.errors.StateUnavailable` if the database does.
        """

        def checked() -> T:
            try:
                if not self._prepared:
                    self._prepare()
                with self._engine.begin() as connection:
                    return work(connection)
            except (SQLAlchemyError, OSError) as error:
                if not self.local:
                    self._engine.dispose()  # a connection whose answer did not come in time is of no use
                raise StateUnavailable(f"the database failed: {_reason(error)}", "try again later") from error

        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, checked)
        return done

    def _prepare(self) -> None:
        with self._engine.begin() as connection:
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
        engine = create_engine(url)
        path = Path(engine.url.database or "")
        if engine.dialect.name != "sqlite":
            return
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise OSError(f"{path} cannot be written")
        if path.exists():
            with create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true").connect() as connection:
                _refuse(connection.execute(select(VERSION.c.version)).scalar())
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise ConfigError("configuration", [f"state: {_reason(error)}"]) from error


def _options(url: str) -> dict[str, Any]:
    if not url.startswith("postgresql"):
        return {}
    # One connection, for the one thread; pg8000's timeout is that of its socket.
    pool = {"pool_size": 1, "max_overflow": 0, "pool_pre_ping": True}
    return {**pool, "connect_args": {"timeout": STATE_TIMEOUT}} if "+pg8000" in url else pool


def _set_up_sqlite(connection: Any, _: Any) -> None:
    """Make what was committed survive a power failure, and let other processes read meanwhile."""
    connection.isolation_level = None  # `_begin_sqlite` begins transactions
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Begin with the lock: a transaction that reads first could not always write afterwards."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_version(connection: Connection) -> None:
    version = connection.execute(select(VERSION.c.version)).scalar()
    if version is None:
        connection.execute(insert(VERSION).values(version=_SCHEMA))
    _refuse(version)


def _refuse(version: int | None) -> None:
    if version not in (None, _SCHEMA):
        raise OSError(f"the tables have version {version}, and this pcapd needs {_SCHEMA}: upgrade pcapd")


def _reason(error: BaseException) -> str:
    """The first line of an error, without statement and values."""
    original = getattr(error, "orig", None) or error
    detail = original.args[0] if original.args else None
    if isinstance(detail, dict):  # pg8000's, of the fields of PostgreSQL's message; M is for people
        return str(detail.get("M", "the database refused a statement"))[:200]
    return (str(original).splitlines() or [type(error).__name__])[0][:200]
