"""Hooks: how an alert manager makes a clip, with a key that can do nothing else.  Pure.

The body is that of Alertmanager's webhook, version 4
(https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

__all__ = ["HOOK_CAUSE", "fits", "hashed", "new_key", "reason_of"]

#: The cause of clips that hooks make.
HOOK_CAUSE = "hook"
#: Bytes of a key before it is written as text.
_KEY_BYTES = 32
#: Compared with if there is no hook, so that the answer takes as long.
_NOBODY = hashlib.sha256(b"").hexdigest()
#: Names of alerts in a reason.
_NAMES_MAX = 5


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(_KEY_BYTES)


def hashed(key: str) -> str:
    """What the index keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def fits(key: str, kept: str | None) -> bool:
    """Whether a key is the one that was hashed; takes the same time for every answer."""
    same = hmac.compare_digest(hashed(key), kept or _NOBODY)
    return same and kept is not None


def reason_of(body: Any) -> str | None:
    """Why the clip is made; None if nothing fires any longer, so that none is to be made.

    Args:
        body: JSON values, which are not trusted.
    """
    if not isinstance(body, dict):
        return "alert"
    status = body.get("status")
    if status == "resolved":
        return None
    alerts = body.get("alerts")
    fields = alerts if isinstance(alerts, list) else []
    names = [name for alert in fields if (name := _name(alert)) is not None]
    common = _label(body.get("commonLabels"))
    distinct = list(dict.fromkeys(names or ([common] if common else [])))
    more = ", …" if len(distinct) > _NAMES_MAX else ""
    shown = ", ".join(distinct[:_NAMES_MAX]) + more
    return f"alert {shown}" if shown else "alert"


def _name(alert: Any) -> str | None:
    """The name of an alert that fires."""
    if not isinstance(alert, dict) or alert.get("status") == "resolved":
        return None
    return _label(alert.get("labels"))


def _label(labels: Any) -> str | None:
    name = labels.get("alertname") if isinstance(labels, dict) else None
    return name if isinstance(name, str) and name else None
