"""The data about a capture that is sent to agents and users, and logged.  No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pcapd.api.capture.audit import request_fields
from pcapd.api.capture.sources import Sources
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.errors import CaptureFailed, RequestError
from pcapd.net.clock import now_us
from pcapd.wire import ApiTraffic, CaptureStart, Request

__all__ = ["Facts", "describe", "worst_error"]


@dataclass(frozen=True)
class Facts:
    """What is known of a capture before it starts.

    Attributes:
        capture: The id of the capture.
        request_id: Connects the log lines of several components.
        resolved: The user and the targets.
        request: The request, after the policy was applied.
        exclude: Filters; packets that match one of them are not captured.
        duration: The longest duration of the capture, in seconds.
        max_bytes: The largest total size of the packet records, in bytes.
        asked_from: Where the request came from, as fields of a record.
        since_us: When it was admitted.
    """

    capture: str
    request_id: str
    resolved: Resolved
    request: Request
    exclude: tuple[str, ...]
    duration: float
    max_bytes: int
    asked_from: Mapping[str, str]
    since_us: int = field(default_factory=now_us)

    @property
    def about(self) -> dict[str, Any]:
        """The fields of each log line and each audit record that identify the capture."""
        who = self.resolved
        about = {"capture": self.capture, "request_id": self.request_id, "user": who.user}
        return {**about, "origin": who.origin} if who.origin else about

    def order(self, target: Target, api_id: str, traffic: ApiTraffic) -> CaptureStart:
        """Make the START message for the agent of one target.

        Args:
            traffic: The api's current connections.
        """
        # Agents use this value only to distinguish users.
        identity = f"{api_id} {self.resolved.identity}"
        request = self.request
        return CaptureStart(
            capture=self.capture,
            request_id=self.request_id,
            instance=target.name,
            interfaces=request.interfaces,
            filter=request.filter,
            snaplen=request.snaplen,
            namespace=target.namespace,
            container=target.container,
            api=traffic,
            user=hashlib.sha256(identity.encode()).hexdigest()[:32],
            headers_only=request.headers_only,
            exclude_filters=self.exclude,
        )

    def started(self) -> dict[str, Any]:
        """The fields of the audit record of the start, with the effective settings."""
        return {
            **self.about,
            **request_fields(self.request),
            "targets": [describe(target) for target in self.resolved.targets],
            "exclude": list(self.exclude),
            "duration": self.duration,
            "max_bytes": self.max_bytes,
            **self.asked_from,
        }

    def extended(self, target: Target) -> dict[str, Any]:
        """The fields of the audit record of an added target."""
        return {**self.about, "targets": [describe(target)]}

    def ended(self, reason: str, detail: str, sources: Sources) -> dict[str, Any]:
        """The fields of the audit record of the end."""
        return {
            **self.about,
            "reason": reason,
            "detail": detail,
            "packets": sum(opened.packets for opened in sources),
            "bytes": sources.bytes,
            "sources": [opened.record() for opened in sources],
        }


def describe(target: Target) -> str:
    """A target, for the audit log."""
    text = f"{target.name} at {target.host}:{target.port}"
    if target.namespace:
        text += f", namespace {target.namespace}"
    if target.container:
        text += f", container {target.container.handle or target.container.address or 'unknown'}"
    return text


def worst_error(errors: Sequence[RequestError]) -> RequestError:
    """The error to report when every target failed; a bad request fails at every agent."""
    kinds = {type(error) for error in errors}
    if len(kinds) == 1:
        first = errors[0]
        if len(errors) == 1 or first.status < 500:
            return first
    messages = "; ".join(dict.fromkeys(error.message for error in errors))
    return CaptureFailed(f"no target could be captured: {messages}")
