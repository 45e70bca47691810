"""Opens the recordings of an api, if the configuration asks for them and their packages are installed."""

from __future__ import annotations

from typing import Any

from pcapd.api.state.optional import needing
from pcapd.config.schema import RecordingsConfig

__all__ = ["check_recordings", "recordings_of"]


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


def _opening() -> Any:
    with needing("recordings"):
        from pcapd.api.recordings import opening  # noqa: PLC0415 - optional packages
    return opening
