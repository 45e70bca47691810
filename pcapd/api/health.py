"""The body of ``GET /health``.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pcapd import COMPATIBILITY_LEVEL, __version__

__all__ = ["health_body"]


def health_body(
    resolvers: Mapping[str, bool], *, draining: bool, unrecorded: bool, unstored: bool
) -> dict[str, Any]:
    """What the api says about itself.

    The answer is public: it names the part that is not ready; the log has the reason.

    Args:
        resolvers: Whether each resolver is ready.
        draining: Whether the api is shutting down.
        unrecorded: Whether audit records cannot be written.
        unstored: Whether recordings cannot be stored.  Captures go on, so the api stays in service.
    """
    trouble = ""
    if draining:
        trouble = "shutting down"
    elif unrecorded:
        trouble = "audit records cannot be written"
    elif not all(resolvers.values()):
        trouble = "a resolver is not ready"
    ready = "ready, but recordings cannot be stored" if unstored else "ready"
    return {
        "healthy": not trouble,
        "compatibility_level": COMPATIBILITY_LEVEL,
        "version": __version__,
        "message": trouble or ready,
        "resolvers": {
            name: {"healthy": healthy, "message": "ready" if healthy else "not ready"}
            for name, healthy in resolvers.items()
        },
    }
