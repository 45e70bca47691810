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
from pcapd.api.recordings.fetching import File, assemble
from pcapd.api.recordings.service import Recordings
from pcapd.api.recordings.splice import Wanted
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.values import RUNNING, Order, described, request_of
from pcapd.api.resolvers.base import Resolved, asked_by
from pcapd.errors import Conflict, Forbidden, LimitReached, RequestError, TargetNotFound
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
        return described(recording, clips[id])

    def stopped(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """End a recording in good order."""
        return Deferred.fromCoroutine(self._stop(client, id))

    async def _stop(self, client: ClientInfo, id: str) -> dict[str, Any]:
        user, recording = await self._mine(client, id)
        if recording.state not in RUNNING or not self._recordings.runs(id):
            raise Conflict("the recording has ended already", "pcapctl recordings shows the states")
        self._record("recording_stop_requested", user, client, recording=id, owner=recording.user)
        own = user.identity == recording.identity
        who = "its owner" if own else f"an operator of the api ({user.user})"
        self._recordings.stop_one(id, f"stopped by {who}")
        return described(recording, (await self._recordings.index.clips([id]))[id])

    def deleted(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """Delete a recording with everything in it; it is ended first if it runs."""
        return Deferred.fromCoroutine(self._delete(client, id))

    async def _delete(self, client: ClientInfo, id: str) -> dict[str, Any]:
        user, recording = await self._mine(client, id)
        self._record("recording_deleted", user, client, recording=id, owner=recording.user)
        await self._recordings.remove(recording)
        return {"deleted": id}

    def fetched(self, client: ClientInfo, id: str, from_us: int | None, to_us: int | None) -> Deferred[File]:
        """The file of a recording's packets in a time."""
        return Deferred.fromCoroutine(self._fetch(client, id, Wanted(from_us, to_us)))

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

    async def _mine(self, client: ClientInfo, id: str, *, read: bool = False) -> tuple[Resolved, Recording]:
        """The user, and a recording that they may use.

        Args:
            read: Whether the packets are wanted: then the permission to capture is asked for anew.
        """
        user, operator = await self._operators.identify(client)
        recording = await self._recordings.index.get(id)
        with asked_by(user.user):
            if recording is None:
                raise _unknown(id)
            own = recording.identity == user.identity
            shared = read and self._readers == "permitted"
            if not own and not operator and not shared:
                raise _unknown(id)
            if read and not operator:
                try:
                    await self._permitted(client, recording)
                except (Forbidden, TargetNotFound):
                    if own:
                        raise
                    raise _unknown(id) from None  # others need not learn that it exists
            return user, recording

    async def _permitted(self, client: ClientInfo, recording: Recording) -> None:
        """Ask whether the user may capture the targets of a recording now."""
        request = request_of(recording.request)
        await self._recordings.resolver(request).survey(request, client.token or "", client.address)

    def _record(self, event: str, user: Resolved, client: ClientInfo, **facts: Any) -> None:
        origin = {"origin": user.origin} if user.origin else {}
        self._trail.record(
            event, user=user.user, **origin, request_id=client.request_id, **client.facts, **facts
        )


def _unknown(id: str) -> TargetNotFound:
    return TargetNotFound(
        f"there is no recording {id!r}, or it is not yours", "pcapctl recordings lists them"
    )
