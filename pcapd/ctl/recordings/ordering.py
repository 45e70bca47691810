"""What ``POST /v1/recordings`` is sent.  Pure."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Dict, Optional, Union

from pcapd.ctl.options import UsageProblem
from pcapd.wire import Request

__all__ = ["clip_occasion", "request_values", "ring_and_clips", "seconds"]

_FILTER = "filter "


def request_values(request: Request, max_bytes: Optional[int]) -> Dict[str, Any]:
    """The keys of a request that differ from their defaults, as JSON values.

    Args:
        max_bytes: Bytes of packets after which the api ends the recording.
    """
    request = dataclasses.replace(request, max_bytes=max_bytes)
    values = dataclasses.asdict(request)
    defaults = {one.name: one.default for one in dataclasses.fields(request)}
    return {name: value for name, value in values.items() if getattr(request, name) != defaults[name]}


def ring_and_clips(
    *,
    keep: Optional[float],
    keep_bytes: Optional[int],
    clip_on: Optional[str],
    before: Optional[float],
    after: Optional[float],
    explain: bool,
) -> Dict[str, Any]:
    """The keys that only recordings have; times are whole seconds.

    Raises:
        UsageProblem: The options contradict each other.
    """
    if clip_on is None and (before is not None or after is not None):
        raise UsageProblem(
            "--before and --after need --clip-on", "they say how much of the time around an event is kept"
        )
    values: Dict[str, Any] = {
        "keep": seconds(keep),
        "keep_bytes": keep_bytes,
        "clip_on": None if clip_on is None else clip_occasion(clip_on),
        "before": seconds(before),
        "after": seconds(after),
        "explain": explain or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def clip_occasion(text: str) -> Union[str, Dict[str, str]]:
    """The JSON value of ``crash`` or ``filter EXPR``.

    Raises:
        UsageProblem: The text is neither.
    """
    if text == "crash":
        return text
    if text.startswith(_FILTER) and text[len(_FILTER) :].strip():
        return {"filter": text[len(_FILTER) :].strip()}
    raise UsageProblem(
        f"--clip-on {text!r} is neither crash nor 'filter EXPR'",
        "for example: --clip-on 'filter tcp[13] & 4 != 0'",
    )


def seconds(value: Optional[float]) -> Optional[int]:
    """Whole seconds, rounded up."""
    return None if value is None else math.ceil(value)
