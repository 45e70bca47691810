"""The audit log: who captured what, where, under which filter and limits.

One record before the first packet, one at the end; written whatever the log
level is.  Tokens are never part of it.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from pcapd.net.logs import AUDIT_NAMESPACE

__all__ = ["record"]

_log = Logger(namespace=AUDIT_NAMESPACE)


def record(event: str, **facts: Any) -> None:
    """Write one audit record.

    Args:
        event: ``capture_started``, ``capture_refused``, ``capture_extended`` (by a
            target that appeared while it ran) or ``capture_ended``.
        facts: Its fields; only what may be kept.
    """
    _log.info("audit: {audit}", audit=event, **facts)
