"""Recordings as JSON values: for the index, and for users.  Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pcapd.api.recordings.tables import Clip, Recording
from pcapd.api.resolvers.base import Target
from pcapd.errors import BadRequest, RemoteProtocolError
from pcapd.wire import Container, Request, decode

__all__ = ["RUNNING", "Order", "described", "request_of", "request_values", "target_of"]

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


def described(recording: Recording, clips: Sequence[Clip]) -> dict[str, Any]:
    """A recording for its user (DESIGN: a recording's fields)."""
    request = recording.request
    target = request.get("app") or request.get("deployment") or list(request.get("targets", ()))
    return {
        "id": recording.id,
        "owner": recording.user,
        "target": target,
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
        "clips": [
            {
                "number": clip.number,
                "reason": clip.reason,
                "first_us": clip.first_us,
                "last_us": clip.last_us,
                "bytes": clip.bytes,
            }
            for clip in clips
        ],
        "message": recording.message,
    }


@dataclasses.dataclass(frozen=True)
class Order:
    """What a user asks for with ``POST /v1/recordings``.

    Attributes:
        request: The request of the capture.
        keep: Seconds of packets to keep; None for all.
        keep_bytes: Bytes to keep; None for all.
    """

    request: Request
    keep: int | None = None
    keep_bytes: int | None = None

    @classmethod
    def of(cls, body: dict[str, Any]) -> Order:
        """Read an order from JSON values.

        Raises:
            BadRequest: A value is missing or not valid.
        """
        return cls(request_of(body), _number(body, "keep"), _number(body, "keep_bytes"))


def _number(body: dict[str, Any], name: str) -> int | None:
    """A whole number above 0, or None."""
    value = body.get(name)
    if value is not None and (type(value) is not int or not 0 < value < 2**53):
        raise BadRequest(f"{name} must be a whole number above 0")
    return value
