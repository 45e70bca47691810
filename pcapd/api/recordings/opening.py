"""Makes the parts of `pcapd.api.recordings` from the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pcapd.api.capture.audit import Trail
from pcapd.api.metrics import Metrics
from pcapd.api.operators import Operators
from pcapd.api.recordings.desk import Desk
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.service import Recordings
from pcapd.api.recordings.store import Store, check_store
from pcapd.api.recordings.watching import Captures
from pcapd.api.state.database import Database
from pcapd.api.state.holding import Holding
from pcapd.api.state.opening import read_file
from pcapd.config.schema import RecordingsConfig
from pcapd.errors import ConfigError
from pcapd.net.reactor import Reactor

__all__ = ["check_parts", "open_recordings"]


def open_recordings(  # noqa: PLR0917
    config: RecordingsConfig,
    reactor: Reactor,
    captures: Captures,
    operators: Operators,
    trail: Trail,
    metrics: Metrics,
    database: Database,
    holding: Holding,
) -> tuple[Recordings, Desk]:
    """Make the recordings of an api, and what its pages ask; nothing is started.

    Raises:
        ConfigError: The store or a file of the configuration cannot be used.
    """
    index = Index(database)
    store = Store(reactor, config.store, _credentials(config.credentials_file))
    recordings = Recordings(reactor, config, captures, trail, index, store, metrics)
    return recordings, Desk(recordings, operators, trail, config.readers)


def check_parts(config: RecordingsConfig) -> None:
    """Check that the store can be used; nothing is made there.

    An object store is not asked: it need not run yet.

    Raises:
        ConfigError: It cannot be used.
    """
    check_store(config.store, _credentials(config.credentials_file))


def _credentials(path: Path | None) -> Mapping[str, str]:
    """The settings of an object store: a JSON object of texts."""
    if path is None:
        return {}
    try:
        settings = json.loads(read_file(path, "recordings.credentials_file"))
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise ConfigError(
            "configuration", [f"recordings.credentials_file: {path} must be a JSON object of texts"]
        )
    return settings
