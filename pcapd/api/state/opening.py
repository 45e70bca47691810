"""Makes the parts of `pcapd.api.state` from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pcapd.api.state.database import Database, check_database
from pcapd.api.state.holding import Holding
from pcapd.api.state.rules import Held
from pcapd.errors import ConfigError
from pcapd.net.reactor import Reactor

__all__ = ["check", "open_state", "read_file"]


def open_state(
    url: str,
    reactor: Reactor,
    name: str,
    captures: Callable[[], list[Held]],
    end: Callable[[str, str], Any],
    *,
    workers: int = 1,
) -> tuple[Database, Holding]:
    """Open the database, and make this process one of its holders; nothing is started.

    Args:
        url: As in the configuration.
        name: Of the api, for people.
        captures: Returns the captures that run in this process.
        end: Ends one of them: id, and why.
        workers: How many processes of this machine are configured to share a database that is a file.

    Raises:
        ConfigError: The database or its file cannot be used.
    """
    database = Database(reactor, _url(url))
    return database, Holding(reactor, database, name, captures, end, workers=workers)


def check(url: str) -> None:
    """Check that the database can be used; nothing is made there.

    A database of another machine is not asked: it need not run yet.

    Raises:
        ConfigError: It cannot be used.
    """
    check_database(_url(url))


def _url(state: str) -> str:
    if not state.startswith("file:"):
        return state
    return read_file(Path(state.removeprefix("file:")), "state_file").strip()


def read_file(path: Path, key: str) -> str:
    """Read a file that the configuration names.

    Raises:
        ConfigError: It cannot be read, or is not text.
    """
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError("configuration", [f"{key}: cannot read {path}: {reason}"]) from error
