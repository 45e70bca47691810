"""The operator's rules, which apply to every user.  No I/O.

Agents apply the rules, because they see the packets, and each agent must confirm them:
an agent that is too old to know a rule captures nothing (`unconfirmed`).
"""

from __future__ import annotations

import dataclasses

from pcapd.api.resolvers.base import Resolved
from pcapd.config.schema import PolicyConfig
from pcapd.errors import BadRequest, Forbidden
from pcapd.wire import Notice, NoticeType, Request, Source

__all__ = ["permitted", "still_permitted", "unconfirmed"]


def permitted(policy: PolicyConfig, request: Request, resolved: Resolved) -> tuple[Request, Resolved]:
    """Apply the rules to a request.

    Returns:
        The request, reduced to the allowed, and the user and targets, with a notice if it was
        reduced.

    Raises:
        Forbidden: The request names an interface that may not be captured.
        BadRequest: The request lacks a reason, which this api requires.
    """
    if policy.require_reason and not request.reason.strip():
        raise BadRequest(
            "this api requires a reason for each capture, for its audit record",
            "pcapctl: --reason 'TICKET: what you look for'; GET /capture: reason=",
        )
    if policy.devices is not None:
        for name in request.interfaces:
            if name not in policy.devices:
                raise Forbidden(
                    f"interface {name!r} may not be captured", f"allowed are: {', '.join(policy.devices)}"
                )
        if not request.interfaces:
            # The agent's own default may be another interface.
            request = dataclasses.replace(request, interfaces=policy.devices[:1])
    if not request.headers_only and (policy.headers_only or resolved.headers_only):
        why = "this api allows nothing else" if policy.headers_only else "your permissions allow nothing else"
        notice = Notice(NoticeType.LIMIT_REACHED, f"packets are cut after their headers: {why}", "api")
        request = dataclasses.replace(request, headers_only=True)
        resolved = dataclasses.replace(resolved, notices=(*resolved.notices, notice))
    return request, resolved


def still_permitted(request: Request, resolved: Resolved) -> Resolved:
    """Check the result of a new look-up while a capture runs.

    Args:
        request: The request of the running capture, as returned by `permitted`.

    Raises:
        Forbidden: The capture shows more than the user may now see.
    """
    if resolved.headers_only and not request.headers_only:
        raise Forbidden("you may now capture headers only", "start a new capture")
    return resolved


def unconfirmed(request: Request, exclude_filters: tuple[str, ...], source: Source) -> str:
    """Describe the rule that the agent of a source does not apply; empty if it applies all."""
    if request.headers_only and not source.headers_only:
        return "its agent cannot cut packets after their headers"
    if not source.excludes_api:
        return "its agent cannot exclude the api's own traffic"
    if source.exclude_filters != len(exclude_filters):
        return "its agent cannot exclude what this api's policy excludes"
    return ""
