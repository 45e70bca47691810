"""The body of ``GET /health``.  It is public: it names the part that is not ready; the log has the reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pcapd import COMPATIBILITY_LEVEL, __version__
from pcapd.api.resolvers.base import Resolver

__all__ = ["health"]


def health(resolvers: Iterable[Resolver], *, draining: bool, recording: bool, ready: str) -> dict[str, Any]:
    """Describe the state of an api.

    Args:
        draining: Whether it is shutting down.
        recording: Whether audit records can be written.
        ready: The message while it is healthy.
    """
    states = {resolver.name: resolver.healthy for resolver in resolvers}
    trouble = ""
    if draining:
        trouble = "shutting down"
    elif not recording:
        trouble = "audit records cannot be written"
    elif not all(states.values()):
        trouble = "a resolver is not ready"
    return {
        "healthy": not trouble,
        "compatibility_level": COMPATIBILITY_LEVEL,
        "version": __version__,
        "message": trouble or ready,
        "resolvers": {
            name: {"healthy": healthy, "message": "ready" if healthy else "not ready"}
            for name, healthy in states.items()
        },
    }
