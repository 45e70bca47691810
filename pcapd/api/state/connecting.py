"""Connections to the database of a URL: TLS, timeouts, and what its errors say.

``sslmode`` and its files mean what they mean to PostgreSQL's own programs
(https://www.postgresql.org/docs/current/libpq-ssl.html), which pg8000 does not know.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import ArgumentError

from pcapd.limits import STATE_IDLE_TIMEOUT, STATE_STATEMENT_TIMEOUT, STATE_TIMEOUT

__all__ = ["engine_of", "reason"]

_POSTGRESQL: Final = ("postgresql", "postgresql+pg8000")
_HOST: Final = re.compile(r"[\w.:-]+", re.ASCII)
_OPTIONS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey")
#: ``sslmode``, and what pg8000 wants: None uses TLS if the server does, True needs it, and neither checks
#: certificates.
_MODES: Final = {"disable": False, "prefer": None, "require": True}
_CHECKED: Final = ("verify-ca", "verify-full")

# SQLAlchemy logs the tracebacks of connections that are gone already, and without this to stderr.
logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())


def engine_of(url: str) -> Engine:
    """Return what makes connections; none is made yet.

    Raises:
        OSError: The URL cannot be used, or a file that it names cannot be read.
        sqlalchemy.exc.SQLAlchemyError, ImportError: The database is of a kind that is not supported.
    """
    try:
        parts = make_url(url)
    except (ValueError, ArgumentError):
        # The error may quote a part of the password.
        raise OSError(
            "this is no URL of a database: other characters than letters and digits in user and password "
            "are written as %XX"
        ) from None
    return _postgresql(parts) if parts.drivername.startswith("postgresql") else _sqlite(parts)


def reason(error: BaseException) -> str:
    """The first line of an error, without statement and values."""
    original = getattr(error, "orig", None) or error
    detail = original.args[0] if original.args else None
    if isinstance(detail, dict):  # pg8000's, of the fields of PostgreSQL's message; M is for people
        return str(detail.get("M", "the database refused a statement"))[:200]
    cause = original.__cause__
    if isinstance(cause, OSError):  # pg8000 says that it cannot connect; the operating system says why
        original = cause
    text = getattr(original, "strerror", None) or str(original)
    return (text.splitlines() or [type(error).__name__])[0][:200]


# --- PostgreSQL --------------------------------------------------------------


def _postgresql(url: URL) -> Engine:
    if url.drivername not in _POSTGRESQL:
        raise OSError("PostgreSQL needs postgresql+pg8000://…")
    if not (url.username and url.host and _HOST.fullmatch(url.host)):
        raise OSError(
            "PostgreSQL needs postgresql+pg8000://USER:PASSWORD@HOST/DATABASE; other characters than letters "
            "and digits in USER and PASSWORD are written as %XX"
        )
    unknown = sorted(url.query.keys() - set(_OPTIONS))
    if unknown:
        raise OSError(f"unknown option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    options = {key: str(value) for key, value in url.query.items()}
    engine = create_engine(
        url.set(drivername=_POSTGRESQL[1], query={}),
        # One connection, for the one thread; pg8000's timeout is that of each operation of its socket.
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={"timeout": STATE_TIMEOUT, "ssl_context": _tls(options)},
        # Whoever waited for the lock must see what was written before, whatever the server's default is.
        isolation_level="READ COMMITTED",
    )
    event.listen(engine, "connect", _set_up_postgresql)
    event.listen(engine, "handle_error", _note_lost)
    return engine


def _tls(options: Mapping[str, str]) -> ssl.SSLContext | bool | None:
    mode = options.get("sslmode", "verify-full" if "sslrootcert" in options else "prefer")
    if mode not in (*_MODES, *_CHECKED):
        raise OSError(f"sslmode must be one of {', '.join((*_MODES, *_CHECKED))}")
    if mode in _MODES:
        if len(options) > 1 or (options and "sslmode" not in options):
            raise OSError(f"certificates are for sslmode {' or '.join(_CHECKED)}")
        return _MODES[mode]
    context = ssl.create_default_context(cafile=options.get("sslrootcert"))
    context.check_hostname = mode == "verify-full"
    if "sslcert" in options:
        context.load_cert_chain(options["sslcert"], options.get("sslkey"))
    return context


def _set_up_postgresql(connection: Any, _: Any) -> None:
    """Let the server undo the transaction of a process that stopped in the middle, perhaps with the lock."""
    timeouts = (
        ("statement_timeout", STATE_STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", STATE_IDLE_TIMEOUT),
    )
    cursor = connection.cursor()
    for name, seconds in timeouts:
        cursor.execute(f"SET {name} = {int(seconds * 1000)}")
    cursor.close()
    connection.commit()


def _note_lost(context: ExceptionContext) -> None:
    """Make a new connection if the present one was ended: pg8000 has the server's last words, not an end."""
    if context.is_pre_ping:
        context.is_disconnect = True


# --- SQLite ------------------------------------------------------------------


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name != "sqlite":
        raise OSError("a database is SQLite or PostgreSQL")
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


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
