"""Requests the captures that run at the api, and ends one (``pcapctl captures``)."""

from __future__ import annotations

import datetime
from typing import Any, Dict, List
from urllib.parse import quote

from pcapd.ctl.display.text import escape
from pcapd.ctl.options import Access
from pcapd.ctl.stream.health import answered, no_api

__all__ = ["as_text", "running", "stop"]


def running(access: Access) -> Dict[str, Any]:
    """The body of ``GET /v1/captures``.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    body = answered(access, "/v1/captures", "captures")
    entries = body["captures"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise no_api(access)
    return body


def stop(access: Access, capture: str) -> None:
    """End a capture.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    answered(access, f"/v1/captures/{quote(capture, safe='')}/stop", "stopped", method="POST")


def as_text(body: Dict[str, Any]) -> List[str]:
    """The captures as lines of text."""
    lines = []
    for entry in body["captures"]:
        facts = [_text(entry, "user"), _since(entry.get("since_us"))]
        targets = entry.get("targets")
        if isinstance(targets, list):
            facts.append(", ".join(escape(str(target)) for target in targets))
        for name in ("filter", "purpose"):
            if entry.get(name):
                facts.append(f"{name}: {_text(entry, name)}")
        lines.append(f"{_text(entry, 'capture')}  {'; '.join(filter(None, facts))}")
    return lines or ["no captures run"]


def _text(entry: Dict[str, Any], name: str) -> str:
    return escape(str(entry.get(name, "unknown")))


def _since(value: Any) -> str:
    if not isinstance(value, int) or not 0 <= value < 2**53:
        return ""
    time = datetime.datetime.fromtimestamp(value / 1e6, datetime.timezone.utc)
    return f"since {time:%Y-%m-%dT%H:%M:%SZ}"
