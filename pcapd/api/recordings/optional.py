"""Opens the recordings of an api, if the configuration asks for them and their packages are installed."""

from __future__ import annotations

from typing import Any

from pcapd.config.schema import RecordingsConfig
from pcapd.errors import ConfigError

__all__ = ["check_recordings", "check_state", "recordings_of"]


def recordings_of(config: RecordingsConfig | None, *parts: Any) -> tuple[Any, Any]:
    """The recordings and their desk; None and None without the section ``recordings``.

    Args:
        config: The section.
        parts: What `pcapd.api.recordings.opening.open_recordings` takes besides.

    Raises:
        ConfigError: A package is not installed, or the store or the database cannot be used.
    """
    return (None, None) if config is None else _opening().open_recordings(config, *parts)


def check_recordings(config: RecordingsConfig | None) -> None:
    """Check that the store and the database can be used; nothing is made there.

    Raises:
        ConfigError: As for `recordings_of`.
    """
    if config is not None:
        _opening().check_parts(config)


def check_state(state: str | None) -> None:
    """Check that the database that several processes share can be used; nothing is made there.

    Raises:
        ConfigError: It cannot be used, or a package is not installed.
    """
    if state is not None:
        _opening("state").check_state(state)


def _opening(key: str = "recordings") -> Any:
    try:
        from pcapd.api.recordings import opening  # noqa: PLC0415 - optional packages
    except ImportError as error:
        missing = f"{key}: the package {error.name} is not installed: pip install 'pcapd[recordings]'"
        raise ConfigError("configuration", [missing]) from error
    return opening
