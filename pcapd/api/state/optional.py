"""Opens the database that apis share, if the configuration asks for it and its packages are installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pcapd.errors import ConfigError

__all__ = ["check_state", "needing", "state_of"]


def state_of(url: str | None, *parts: Any, workers: int = 1) -> tuple[Any, Any]:
    """The database and this process as one of its holders; None and None without ``state``.

    Args:
        url: As in the configuration.
        parts: What `pcapd.api.state.opening.open_state` takes besides.
        workers: How many processes of this machine are configured to share a database that is a file.

    Raises:
        ConfigError: A package is not installed, or the database cannot be used.
    """
    if url is None:
        return None, None
    with needing("state"):
        from pcapd.api.state.opening import open_state  # noqa: PLC0415 - optional packages
    return open_state(url, *parts, workers=workers)


def check_state(url: str | None) -> None:
    """Check that the database can be used; nothing is made there.

    Raises:
        ConfigError: As for `state_of`.
    """
    if url is not None:
        with needing("state"):
            from pcapd.api.state.opening import check  # noqa: PLC0415 - optional packages
        check(url)


@contextlib.contextmanager
def needing(key: str) -> Iterator[None]:
    """Make a failed import a `ConfigError` that tells the remedy.

    Args:
        key: The key of the configuration that needs the package.
    """
    try:
        yield
    except ImportError as error:
        remedy = "pip install 'pcapd[recordings]'"
        missing = f"{key}: the package {error.name} is not installed: {remedy}"
        raise ConfigError("configuration", [missing]) from error
