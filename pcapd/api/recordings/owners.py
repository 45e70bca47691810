"""What the owner of a recording may: to follow an app, to go on after a restart, and to whom it is left.

A recording outlives its owner's token.  With the api's own client
(`pcapd.api.resolvers.base.Overseer`) the owner's role is checked while it runs
(`pcapd.api.capture.rechecking`), and here before it goes on after a restart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pcapd.api.capture.audit import Trail
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.values import request_of, target_of
from pcapd.api.resolvers.base import Resolved, Resolver, Standing
from pcapd.errors import BadRequest, Forbidden, LimitReached, RecordingsUnavailable, ResolverUnavailable
from pcapd.wire import EndReason, Request

__all__ = ["check_follow", "present", "standing_of", "standing_values", "vouch"]


def standing_values(standing: Standing | None) -> dict[str, Any] | None:
    """A standing as JSON values, for the index."""
    return None if standing is None else dataclasses.asdict(standing)


def standing_of(values: Mapping[str, Any] | None) -> Standing | None:
    """The standing of these values."""
    return None if values is None else Standing(**values)


def check_follow(request: Request, resolver: Resolver) -> None:
    """Refuse a recording that follows an app, if the api cannot ask without its user's token.

    Raises:
        BadRequest: The resolver has no client of its own.
    """
    if request.follow and resolver.overseer is None:
        raise BadRequest(
            "a recording cannot follow an app at this api, which has no client of its own",
            "record its instances as they are now, or ask the operator to configure cloud_foundry.client",
        )


async def present(
    recording: Recording,
    resolver: Resolver,
    trail: Trail,
    finish: Callable[[str, str, str], Awaitable[None]],
) -> Resolved | None:
    """The owner and the targets of a recording that goes on; None if the owner may not any longer.

    Args:
        recording: The recording.
        resolver: The resolver of its request.
        trail: Writes an audit record of a role that was lost.
        finish: Notes the end of a recording: id, state, message.

    Raises:
        ResolverUnavailable: It follows an app, and nobody knows where its instances are.
        RecordingsUnavailable: It follows an app of which no instance runs.
        TargetNotFound: It follows an app that was deleted.
    """
    request, overseer = request_of(recording.request), resolver.overseer
    standing = standing_of(recording.standing)
    targets = tuple(target_of(values) for values in recording.targets)
    resolved = Resolved(
        recording.user,
        targets,
        identity=recording.identity,
        origin=recording.origin,
        standing=standing,
    )
    if overseer is None or standing is None:
        return resolved
    try:
        await overseer.check(request, standing)
    except Forbidden as error:
        message = f"you may not capture this any longer: {error.message}"
        facts = {"recording": recording.id, "user": recording.user, "request_id": recording.id}
        reason = EndReason.FORBIDDEN.value
        trail.note("recording_ended", **facts, owner=recording.user, reason=reason, detail=message)
        await finish(recording.id, "stopped", message)
        return None
    except (ResolverUnavailable, LimitReached):
        pass  # not a lost role; it is checked again while the recording runs
    if not request.follow:
        return resolved
    found = await overseer.survey(request, standing)
    if not found.targets:
        raise RecordingsUnavailable("no instance of the app runs")
    return dataclasses.replace(resolved, targets=found.targets)


async def vouch(resolver: Resolver, recording: Recording, token: str, client: str) -> bool:
    """Whether a recording is of an app that was deleted, in whose space the user of a token may capture.

    Call it when the app cannot be found with this token.

    Args:
        resolver: The resolver of its request.
        client: The client's address.

    Raises:
        RequestError: The user may not, or the authority does not answer.
    """
    standing = standing_of(recording.standing)
    if standing is None:
        return False
    await resolver.vouch(request_of(recording.request), standing, token, client)
    return True
