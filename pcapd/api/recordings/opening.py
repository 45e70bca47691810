"""Makes the parts of `pcapd.api.recordings` from the configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pcapd.api.capture.audit import Trail
from pcapd.api.metrics import Metrics
from pcapd.api.operators import Operators
from pcapd.api.recordings.desk import Desk
from pcapd.api.recordings.index import Index, check_database
from pcapd.api.recordings.service import Recordings
from pcapd.api.recordings.store import Store, check_store
from pcapd.api.recordings.watching import Captures
from pcapd.config.schema import RecordingsConfig
from pcapd.errors import ConfigError
from pcapd.net.reactor import Reactor

__all__ = ["check_parts", "check_state", "open_recordings"]

#: Files and directories are only for the owner.
_UMASK: Final = 0o077


def open_recordings(  # noqa: PLR0917
    config: RecordingsConfig,
    reactor: Reactor,
    captures: Captures,
    operators: Operators,
    trail: Trail,
    metrics: Metrics,
) -> tuple[Recordings, Desk]:
    """Make the recordings of an api, and what its pages ask; nothing is started.

    Raises:
        ConfigError: The store, the database or a file of the configuration cannot be used.
    """
    os.umask(_UMASK)  # of the whole process: the files of the index and of the store are made by libraries
    index = Index(reactor, _state(config.state))
    store = Store(reactor, config.store, _credentials(config.credentials_file))
    recordings = Recordings(reactor, config, captures, trail, index, store, metrics)
    return recordings, Desk(recordings, operators, trail, config.readers)


def check_parts(config: RecordingsConfig) -> None:
    """Check that the store and the database can be used; nothing is made there.

    A database of another machine and an object store are not asked: they need not run yet.

    Raises:
        ConfigError: They cannot be used.
    """
    problems: list[str] = []
    for check in (
        lambda: check_database(_state(config.state)),
        lambda: check_store(config.store, _credentials(config.credentials_file)),
    ):
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError("recordings", problems)


def check_state(state: str) -> None:
    """Check that a database can be used, like `check_parts`.

    Raises:
        ConfigError: It cannot be used.
    """
    check_database(_state(state))


def _state(state: str) -> str:
    if not state.startswith("file:"):
        return state
    return _read(Path(state.removeprefix("file:")), "state_file").strip()


def _credentials(path: Path | None) -> Mapping[str, str]:
    """The settings of an object store: a JSON object of texts."""
    if path is None:
        return {}
    try:
        settings = json.loads(_read(path, "recordings.credentials_file"))
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise ConfigError(
            "configuration", [f"recordings.credentials_file: {path} must be a JSON object of texts"]
        )
    return settings


def _read(path: Path, key: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError("configuration", [f"{key}: cannot read {path}: {reason}"]) from error
