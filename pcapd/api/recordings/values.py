"""Recordings as JSON values: for the index, and for users.  Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pcapd.api.recordings.tables import Clip, Recording
from pcapd.api.resolvers.base import Target
from pcapd.errors import BadRequest, RemoteProtocolError
from pcapd.limits import CLIP_AFTER, CLIP_BEFORE, CLIP_MAX, FILTER_MAX, REASON_MAX
from pcapd.wire import Container, Request, decode

__all__ = [
    "RUNNING",
    "Cut",
    "Order",
    "described",
    "described_clip",
    "filter_of",
    "request_of",
    "request_values",
    "target_of",
]

#: States of a recording that may still grow.
RUNNING: Final = ("starting", "recording")


def request_values(request: Request) -> dict[str, Any]:
    """A request without its token."""
    return {**dataclasses.asdict(request), "token": None}


def request_of(values: Mapping[str, Any]) -> Request:
    """The request of these values.

    Raises:
        BadRequest: They are not those of a request.
    """
    try:
        return decode(Request, json.dumps(values).encode())
    except (RemoteProtocolError, ValueError, TypeError) as error:
        raise BadRequest(str(error)) from error


def target_of(values: Mapping[str, Any]) -> Target:
    """The target of these values, which `dataclasses.asdict` made."""
    container = values.get("container")
    return Target(**{**values, "container": Container(**container) if container else None})


def filter_of(clip_on: Any) -> str | None:
    """The second filter of a recording; None if it has none."""
    return clip_on["filter"] if isinstance(clip_on, Mapping) else None


def described_clip(clip: Clip, *, findings: bool = False) -> dict[str, Any]:
    """A clip for its user.

    Args:
        findings: Whether what was found in it is wanted too; null if it was not explained.
    """
    shown = {
        "number": clip.number,
        "state": clip.state,
        "reason": clip.reason,
        "first_us": clip.first_us,
        "last_us": clip.last_us,
        "bytes": clip.bytes,
    }
    return {**shown, "findings": clip.findings} if findings else shown


def described(recording: Recording, clips: Sequence[Clip], *, findings: bool = False) -> dict[str, Any]:
    """A recording for its user (DESIGN: a recording's fields)."""
    request = recording.request
    target = request.get("app") or request.get("deployment") or list(request.get("targets", ()))
    return {
        "id": recording.id,
        "owner": recording.user,
        "target": target,
        "follow": request.get("follow", False),
        "instances": [values["name"] for values in recording.targets],
        "interfaces": list(request.get("interfaces", ())),
        "filter": request.get("filter", ""),
        "state": recording.state,
        "since_us": recording.since_us,
        "first_us": recording.first_us,
        "last_us": None if recording.first_us is None else recording.last_us,
        "bytes": recording.bytes,
        "packets": recording.packets,
        "dropped": recording.dropped,
        "keep": recording.keep,
        "keep_bytes": recording.keep_bytes,
        "deleted_packets": recording.deleted_packets,
        "ended_us": recording.ended_us,
        "clip_on": recording.clip_on,
        "before": recording.before,
        "after": recording.after,
        "hook": recording.hook is not None,
        "clips": [described_clip(clip, findings=findings) for clip in clips],
        "message": recording.message,
    }


@dataclasses.dataclass(frozen=True)
class Order:
    """What a user asks for with ``POST /v1/recordings``.

    Attributes:
        request: The request of the capture.
        keep: Seconds of packets to keep; None for all.
        keep_bytes: Bytes to keep; None for all.
        clip_on: What makes a clip: ``"crash"``, ``{"filter": TEXT}``, or None.
        before: Seconds before the event in such a clip; ``after``: after it.
        explain: Whether clips are explained.
    """

    request: Request
    keep: int | None = None
    keep_bytes: int | None = None
    clip_on: Any = None
    before: int = int(CLIP_BEFORE)
    after: int = int(CLIP_AFTER)
    explain: bool = False

    @classmethod
    def of(cls, body: dict[str, Any]) -> Order:
        """Read an order from JSON values.

        Raises:
            BadRequest: A value is missing or not valid.
        """
        explain = body.get("explain")
        if not isinstance(explain, (bool, type(None))):
            raise BadRequest("explain must be true or false")
        return cls(
            request_of(body),
            _number(body, "keep"),
            _number(body, "keep_bytes"),
            _clip_on(body.get("clip_on")),
            _seconds(body, "before", int(CLIP_BEFORE)),
            _seconds(body, "after", int(CLIP_AFTER)),
            bool(explain),
        )


@dataclasses.dataclass(frozen=True)
class Cut:
    """What a user asks for with ``POST /v1/recordings/ID/clip``.

    Attributes:
        before: Seconds before now; ``after``: after now.
        reason: Why, one line.
    """

    before: int
    after: int
    reason: str

    @classmethod
    def of(cls, body: Any) -> Cut:
        """Read it from JSON values; all have defaults.

        Raises:
            BadRequest: A value is not valid.
        """
        body = {} if body is None else body
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        reason = body.get("reason") or "by command"
        if not isinstance(reason, str) or len(reason) > REASON_MAX or not reason.isprintable():
            raise BadRequest(f"reason must be at most {REASON_MAX} printable characters, in one line")
        before = _seconds(body, "before", int(CLIP_BEFORE))
        return cls(before, _seconds(body, "after", int(CLIP_AFTER)), reason)


def _clip_on(value: Any) -> Any:
    if value is None or value == "crash":
        return value
    expression = value.get("filter") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(expression, str) or not expression.strip() or len(expression) > FILTER_MAX:
        hint = 'for example: {"filter": "tcp port 443 and tcp[13] & 4 != 0"}'
        raise BadRequest('clip_on must be "crash", or an object with a filter', hint)
    return {"filter": expression}


def _seconds(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if type(value) not in {int, float} or not 0 <= value <= CLIP_MAX:
        raise BadRequest(f"{name} must be 0 to {CLIP_MAX:g} seconds")
    return int(value)


def _number(body: dict[str, Any], name: str) -> int | None:
    """A whole number above 0, or None."""
    value = body.get(name)
    if value is not None and (type(value) is not int or not 0 < value < 2**53):
        raise BadRequest(f"{name} must be a whole number above 0")
    return value
