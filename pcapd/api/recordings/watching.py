"""Watches running recordings for events that make clips by themselves (``clip_on``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pcapd.api.capture.audit import Trail
from pcapd.api.capture.life import Capture
from pcapd.api.http.web import ClientInfo
from pcapd.api.recordings.clips import Clips, printable
from pcapd.api.recordings.tables import Clip, Recording
from pcapd.api.recordings.triggers import FILTER_CAUSE, Trigger, lost_instance, trigger_request
from pcapd.api.recordings.values import filter_of
from pcapd.api.resolvers.base import Resolved, Resolver
from pcapd.errors import PcapdError
from pcapd.net.reactor import Reactor
from pcapd.wire import Notice, Request

__all__ = ["Captures", "Watching"]


class Captures(Protocol):
    """The part of the api that makes captures."""

    def accepting(self) -> None:
        """Raise `Draining` when the api accepts no new captures."""

    def begin(self, request: Request, token: str | None, client: ClientInfo, sink: Any) -> Deferred[Capture]:
        """Authenticate the user, find the targets, and admit the capture."""

    def resume(self, id: str, request: Request, resolved: Resolved, sink: Any) -> Capture:
        """Make a capture for a request that was admitted before."""

    def resolver(self, request: Request) -> Resolver:
        """The resolver of a request."""

    def released(self, capture: Capture) -> None:
        """Stop counting a capture."""


class Watching:
    """See the module.

    Args:
        reactor: The reactor.
        captures: Makes captures.
        clips: Makes the clips.
        trail: Writes audit records.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, captures: Captures, clips: Clips, trail: Trail) -> None:
        self._reactor = reactor
        self._captures = captures
        self._clips = clips
        self._trail = trail
        self._triggers: dict[str, Trigger] = {}

    def noticed(self, recording: Recording, notice: Notice) -> None:
        """Handle a notice of a running recording: the loss of an instance may make a clip."""
        if recording.clip_on == "crash" and lost_instance(notice):
            self._clip(recording, f"{notice.origin}: {notice.message}", f"crash {notice.origin}")

    def watch(self, recording: Recording, request: Request, resolved: Resolved) -> Deferred[None]:
        """Start the second capture, if the recording has a second filter.

        Fires when a source of it is open; fails with a `RequestError` if there will be none.

        Args:
            request: The recording's.
            resolved: The user and the targets.
        """
        expression = filter_of(recording.clip_on)
        if expression is None:
            return _now()
        fire: Callable[[], None] = lambda: self._clip(  # noqa: E731
            recording, f"a packet matched: {expression}", FILTER_CAUSE
        )
        trigger = Trigger(self._reactor, fire, self._captures.released)
        capture = self._captures.resume(recording.id, trigger_request(request, expression), resolved, trigger)
        self._triggers[recording.id] = trigger
        trigger.watch(capture)
        return trigger.opened

    def begun(self, id: str) -> None:
        """Handle that the recording has begun: from now on, packets make clips."""
        trigger = self._triggers.get(id)
        if trigger is not None:
            trigger.arm()

    def watch_again(self, recording: Recording, request: Request, resolved: Resolved) -> None:
        """Like `watch`, for a recording that goes on without it: what fails is only logged."""
        try:
            done = self.watch(recording, request, resolved)
        except PcapdError as error:
            self.log.warn("clip_on of {id}: {reason}", id=recording.id, reason=str(error))
            return
        self.begun(recording.id)
        done.addErrback(
            lambda failure: self.log.warn(
                "clip_on of {id}: {reason}", id=recording.id, reason=failure.getErrorMessage()
            )
        )

    def ended(self, id: str) -> None:
        """Handle the end of a recording."""
        trigger = self._triggers.pop(id, None)
        if trigger is not None:
            trigger.close()

    def _clip(self, recording: Recording, reason: str, cause: str) -> None:
        """Make a clip, which is then in the audit log; nobody waits for it, so a failure is only logged."""
        id, reason = recording.id, printable(reason)

        def made(clip: Clip) -> None:
            facts = {"recording": id, "owner": recording.user, "clip": clip.number, "purpose": reason}
            self._trail.note("recording_clipped", **facts)

        cut = self._clips.cut(
            id, reason, recording.before, recording.after, explain=recording.explain, cause=cause
        )
        Deferred.fromCoroutine(cut).addCallback(made).addErrback(
            lambda failure: self.log.info("no clip of {id}: {why}", id=id, why=failure.getErrorMessage())
        )


def _now() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done
