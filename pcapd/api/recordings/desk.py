"""What users ask about recordings, and who may: the owner, operators, and those who are permitted.

Whoever wants packets must be permitted to capture the targets now, with their own token.  What operators
do with the recordings of others is in the audit log before it happens.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail

from pcapd.api.capture.audit import Trail
from pcapd.api.http.web import ClientInfo
from pcapd.api.operators import Operators
from pcapd.api.policy import still_permitted
from pcapd.api.recordings.clips import printable
from pcapd.api.recordings.fetching import File, assemble, clip_file
from pcapd.api.recordings.hooks import HOOK_CAUSE, fits, hashed, new_key, reason_of
from pcapd.api.recordings.owners import vouch
from pcapd.api.recordings.service import Recordings
from pcapd.api.recordings.splice import Wanted
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.values import RUNNING, Cut, Order, described, described_clip, request_of
from pcapd.api.resolvers.base import Resolved, asked_by
from pcapd.errors import Conflict, Forbidden, LimitReached, RequestError, TargetNotFound, Unauthenticated
from pcapd.limits import FETCHES_MAX

__all__ = ["Desk"]


class Desk:
    """See the module, and `pcapd.api.http.recordings.Recorded`.

    Args:
        recordings: The recordings.
        operators: Identifies users.
        trail: Writes audit records.
        readers: Who may read a recording (`pcapd.config.schema.RecordingsConfig`).
    """

    def __init__(self, recordings: Recordings, operators: Operators, trail: Trail, readers: str) -> None:
        self._recordings = recordings
        self._operators = operators
        self._trail = trail
        self._readers = readers
        self._fetches = 0  # files that are being sent

    def ordered(self, body: Any, client: ClientInfo) -> Deferred[dict[str, Any]]:
        """Start a recording; fires with it, or fails with a `RequestError`.

        Cancel the Deferred when the client has disconnected.

        Args:
            body: The keys of a request, and those of a recording, as JSON values.
        """
        try:
            order = Order.of(body)
        except RequestError as error:
            return fail(error)
        return Deferred.fromCoroutine(self._recordings.create(order, client))

    def listed(self, client: ClientInfo) -> Deferred[dict[str, Any]]:
        """The recordings of the user, or of everybody for an operator."""
        return Deferred.fromCoroutine(self._listed(client))

    async def _listed(self, client: ClientInfo) -> dict[str, Any]:
        user, operator = await self._operators.identify(client)
        recordings = await self._recordings.index.listed(None if operator else user.identity)
        if any(one.identity != user.identity for one in recordings):
            self._record("recordings_listed", user, client)
        clips = await self._recordings.index.clips([one.id for one in recordings])
        return {"recordings": [described(one, clips[one.id]) for one in recordings]}

    def shown(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """One recording."""
        return Deferred.fromCoroutine(self._shown(client, id))

    async def _shown(self, client: ClientInfo, id: str) -> dict[str, Any]:
        _, recording = await self._mine(client, id)
        clips = await self._recordings.index.clips([id])
        return described(recording, clips[id], findings=True)

    def stopped(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """End a recording in good order."""
        return Deferred.fromCoroutine(self._stop(client, id))

    async def _stop(self, client: ClientInfo, id: str) -> dict[str, Any]:
        user, recording = await self._mine(client, id)
        self._needs_to_run(recording)
        self._record("recording_stop_requested", user, client, recording=id, owner=recording.user)
        own = user.identity == recording.identity
        who = "its owner" if own else f"an operator of the api ({user.user})"
        self._recordings.stop_one(id, f"stopped by {who}")
        return described(recording, (await self._recordings.index.clips([id]))[id])

    def deleted(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """Delete a recording with everything in it; it is ended first if it runs."""
        return Deferred.fromCoroutine(self._delete(client, id))

    async def _delete(self, client: ClientInfo, id: str) -> dict[str, Any]:
        user, recording = await self._mine(client, id, orphans=True)
        self._record("recording_deleted", user, client, recording=id, owner=recording.user)
        await self._recordings.remove(recording)
        return {"deleted": id}

    # --- clips -----------------------------------------------------------------

    def clipped(self, client: ClientInfo, id: str, body: Any) -> Deferred[dict[str, Any]]:
        """Make a clip around now; fires with it."""
        return Deferred.fromCoroutine(self._clip(client, id, body))

    async def _clip(self, client: ClientInfo, id: str, body: Any) -> dict[str, Any]:
        cut = Cut.of(body)
        user, recording = await self._mine(client, id)
        with asked_by(user.user):
            self._needs_to_run(recording)
            self._record(
                "recording_clipped", user, client, recording=id, owner=recording.user, purpose=cut.reason
            )
            clip = await self._recordings.clips.cut(
                id, cut.reason, cut.before, cut.after, explain=recording.explain
            )
        return described_clip(clip)

    def hooked(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """Make a new key of a recording's hook, which replaces an older one; only for the owner."""
        return Deferred.fromCoroutine(self._hook(client, id))

    async def _hook(self, client: ClientInfo, id: str) -> dict[str, Any]:
        user, recording = await self._mine(client, id)
        with asked_by(user.user):
            if recording.identity != user.identity:
                raise _unknown(id)
            self._needs_to_run(recording)
            self._record("recording_hook_made", user, client, recording=id)
            key = new_key()
            await self._recordings.index.change(id, hook=hashed(key))
        return {"hook": {"path": f"/v1/hooks/{id}", "key": key}}

    def struck(self, client: ClientInfo, id: str, body: Any) -> Deferred[dict[str, Any]]:
        """Make a clip for an alert manager, whose key is in the place of a user's token."""
        return Deferred.fromCoroutine(self._strike(client, id, body))

    async def _strike(self, client: ClientInfo, id: str, body: Any) -> dict[str, Any]:
        recording = await self._recordings.index.get(id)
        # The same answer, after the same time, if there is no such hook and if its key is another one.
        if not fits(client.token or "", None if recording is None else recording.hook) or recording is None:
            raise Unauthenticated("there is no such hook, or its key is another one")
        self._needs_to_run(recording)
        reason = reason_of(body)
        if reason is None:
            return {"clip": None}
        reason = printable(reason)
        facts = {"recording": id, "owner": recording.user, "purpose": reason}
        self._trail.record("recording_hook_called", request_id=client.request_id, **client.facts, **facts)
        clip = await self._recordings.clips.cut(
            id, reason, recording.before, recording.after, explain=recording.explain, cause=HOOK_CAUSE
        )
        return {"clip": described_clip(clip)}

    def _needs_to_run(self, recording: Recording) -> None:
        if recording.state not in RUNNING or not self._recordings.runs(recording.id):
            raise Conflict("the recording has ended already", "pcapctl recordings shows the states")

    # --- packets ---------------------------------------------------------------

    def fetched(self, client: ClientInfo, id: str, from_us: int | None, to_us: int | None) -> Deferred[File]:
        """The file of a recording's packets in a time."""
        return Deferred.fromCoroutine(self._fetch(client, id, Wanted(from_us, to_us)))

    def fetched_clip(self, client: ClientInfo, id: str, number: int) -> Deferred[File]:
        """The file of a clip."""
        return Deferred.fromCoroutine(self._fetch_clip(client, id, number))

    async def _fetch_clip(self, client: ClientInfo, id: str, number: int) -> File:
        user, recording = await self._mine(client, id, read=True)
        with asked_by(user.user):
            clips = (await self._recordings.index.clips([id]))[id]
            clip = next((one for one in clips if one.number == number), None)
            if clip is None:
                raise TargetNotFound(
                    f"the recording has no clip {number}", "pcapctl recording show lists them"
                )
            if clip.state == "open":
                raise Conflict(f"clip {number} is not finished: its end is not stored yet", "try again later")
            if clip.state != "done":
                raise TargetNotFound(f"clip {number} has no packets, or could not be stored")
            self._record("recording_fetched", user, client, recording=id, owner=recording.user, clip=number)
        return clip_file(self._recordings.store, clip)

    async def _fetch(self, client: ClientInfo, id: str, wanted: Wanted) -> File:
        user, recording = await self._mine(client, id, read=True)
        if self._fetches >= FETCHES_MAX:
            raise LimitReached(f"{FETCHES_MAX} files of recordings are being sent", "try again later")
        self._fetches += 1
        try:
            return await self._file(client, user, recording, wanted)
        except BaseException:
            self._sent()
            raise

    async def _file(self, client: ClientInfo, user: Resolved, recording: Recording, wanted: Wanted) -> File:
        id = recording.id
        segments = await self._recordings.index.segments(id, wanted.from_us, wanted.to_us)
        if not segments:
            raise TargetNotFound("the recording has no packets in this time")
        self._record("recording_fetched", user, client, recording=id, owner=recording.user)
        return await assemble(self._recordings.store, id, segments, wanted, self._sent)

    def _sent(self) -> None:
        self._fetches -= 1

    # --- permissions -----------------------------------------------------------

    async def _mine(
        self, client: ClientInfo, id: str, *, read: bool = False, orphans: bool = False
    ) -> tuple[Resolved, Recording]:
        """The user, and a recording that they may use.

        Args:
            read: Whether the packets are wanted: then the permission to capture is asked for anew.
            orphans: Whether it is enough that others too may read it and its app was deleted.
        """
        user, operator = await self._operators.identify(client)
        recording = await self._recordings.index.get(id)
        with asked_by(user.user):
            if recording is None:
                raise _unknown(id)
            own = recording.identity == user.identity
            shared = (read or orphans) and self._readers == "permitted"
            if not own and not operator and not shared:
                raise _unknown(id)
            if not operator and (read or not own):
                try:
                    deleted = await self._permitted(client, recording)
                except (Forbidden, TargetNotFound):
                    if own:
                        raise
                    raise _unknown(id) from None  # others need not learn that it exists
                if not read and not deleted:
                    raise _unknown(id)
            return user, recording

    async def _permitted(self, client: ClientInfo, recording: Recording) -> bool:
        """Ask whether the user may capture the targets of a recording now; whether its app was deleted.

        Who may capture in the space of an app that was deleted is permitted.
        """
        request, token = request_of(recording.request), client.token or ""
        resolver = self._recordings.resolver(request)
        try:
            still_permitted(request, await resolver.survey(request, token, client.address))
        except TargetNotFound:
            if not await vouch(resolver, recording, token, client.address):
                raise
            return True
        return False

    def _record(self, event: str, user: Resolved, client: ClientInfo, **facts: Any) -> None:
        origin = {"origin": user.origin} if user.origin else {}
        self._trail.record(
            event, user=user.user, **origin, request_id=client.request_id, **client.facts, **facts
        )


def _unknown(id: str) -> TargetNotFound:
    return TargetNotFound(
        f"there is no recording {id!r}, or it is not yours", "pcapctl recordings lists them"
    )
