"""What the operator lets nobody do, whoever they are.  Pure.

Each rule is obeyed by the agent, which knows the packets, and each agent has to say
so: one that is too old to know a rule captures nothing (`unconfirmed`).
"""

from __future__ import annotations

import dataclasses

from pcapd.api.resolvers.base import Resolved
from pcapd.config.schema import PolicyConfig
from pcapd.errors import Forbidden
from pcapd.wire import Notice, NoticeType, Request, Source

__all__ = ["permitted", "still_permitted", "unconfirmed"]


def permitted(policy: PolicyConfig, request: Request, resolved: Resolved) -> tuple[Request, Resolved]:
    """What becomes of a request.

    Returns:
        The request as it may be carried out, and who asks, with a notice for them
        where it is less than they asked for.

    Raises:
        Forbidden: It names an interface that may not be captured.
    """
    if policy.devices is not None:
        for name in request.interfaces:
            if name not in policy.devices:
                raise Forbidden(
                    f"interface {name!r} may not be captured", f"allowed are: {', '.join(policy.devices)}"
                )
        if not request.interfaces:
            # An agent's own default may be another one.
            request = dataclasses.replace(request, interfaces=policy.devices[:1])
    if not request.headers_only and (policy.headers_only or resolved.headers_only):
        why = "this api allows nothing else" if policy.headers_only else "your permissions allow nothing else"
        notice = Notice(NoticeType.LIMIT_REACHED, f"packets are cut after their headers: {why}", "api")
        request = dataclasses.replace(request, headers_only=True)
        resolved = dataclasses.replace(resolved, notices=(*resolved.notices, notice))
    return request, resolved


def still_permitted(request: Request, resolved: Resolved) -> Resolved:
    """Check what was found out again while a capture runs.

    Args:
        request: As it is carried out.

    Raises:
        Forbidden: It shows more than the user may see by now.
    """
    if resolved.headers_only and not request.headers_only:
        raise Forbidden("you may capture nothing but headers any more", "begin a new capture")
    return resolved


def unconfirmed(request: Request, exclude_filters: tuple[str, ...], source: Source) -> str:
    """Which rule the agent of a source does not obey, in words; empty when it obeys all."""
    if request.headers_only and not source.headers_only:
        return "its agent cannot cut packets after their headers"
    if not source.excludes_api:
        return "its agent cannot exclude the api's own traffic"
    if source.exclude_filters != len(exclude_filters):
        return "its agent cannot exclude what this api excludes"
    return ""
