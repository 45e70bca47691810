"""Recordings: captures whose sink is the store, so that they go on when nobody is connected.

A recording is in the index before its capture starts.  It survives a restart of the api: the agents are
dialled again in a new epoch, and the gap is stated in the file.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pcapd.api.capture.audit import Trail
from pcapd.api.capture.life import Capture
from pcapd.api.http.web import ClientInfo
from pcapd.api.recordings.clips import Clips
from pcapd.api.recordings.explaining import Explainer
from pcapd.api.recordings.fetching import clip_name, object_name
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.keeping import Ring
from pcapd.api.recordings.recorder import Recorder
from pcapd.api.recordings.segments import Segment
from pcapd.api.recordings.splice import Stored
from pcapd.api.recordings.store import Store
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.values import Order, described, request_of, request_values, target_of
from pcapd.api.recordings.watching import Watching
from pcapd.api.resolvers.base import Resolved, Resolver, asked_by
from pcapd.config.schema import RecordingsConfig
from pcapd.errors import (
    BadRequest,
    LimitReached,
    NoRoom,
    PcapdError,
)
from pcapd.limits import ORPHAN_AGE, SWEEP_INTERVAL
from pcapd.merge.muxer import Muxer
from pcapd.net.clock import now_us
from pcapd.net.reactor import Reactor
from pcapd.savefile.form import Form
from pcapd.wire import EndReason, Notice, Request, Source

__all__ = ["RUNNING", "Captures", "Recordings"]

_MICROS = 1_000_000
#: States of a recording that may still grow.
RUNNING = ("starting", "recording")


class Captures(Protocol):
    """The part of the api that starts captures."""

    def begin(self, request: Request, token: str | None, client: ClientInfo, sink: Any) -> Deferred[Capture]:
        """Authenticate the user, find the targets, and admit the capture."""

    def resume(self, id: str, request: Request, resolved: Resolved, sink: Any) -> Capture:
        """Make a capture for a request that was admitted before."""

    def resolver(self, request: Request) -> Resolver:
        """The resolver of a request."""

    def released(self, capture: Capture) -> None:
        """Stop counting a capture."""


class _Running:
    """A recording that runs in this process; see `pcapd.api.recordings.recorder.Keeper`."""

    log = Logger()

    def __init__(self, owner: Recordings, id: str, epoch: int, ring: Ring) -> None:
        self._owner = owner
        self.id = id
        self.epoch = epoch
        self._ring = ring
        self._stored: set[int] = set()  # numbers of segments whose object is stored, but not in the index
        self.capture: Capture | None = None
        self.recorder: Recorder | None = None
        self.recording: Recording | None = None
        self.identity = ""

    def keep(self, segment: Segment) -> Deferred[None]:
        """Store a segment, add it to the index, and delete what is not kept any longer."""
        return Deferred.fromCoroutine(self._keep(segment))

    async def _keep(self, segment: Segment) -> None:
        owner, name = self._owner, object_name(self.id, self.epoch, segment.number)
        if segment.number not in self._stored:
            await owner.store.put(name, segment.data)
            self._stored.add(segment.number)
        stored = Stored(
            epoch=self.epoch,
            number=segment.number,
            first_us=segment.first_us,
            last_us=segment.last_us,
            size=len(segment.data),
            header_bytes=segment.header_bytes,
            packets=segment.packets,
        )
        if not await owner.index.add_segment(self.id, stored, segment.dropped):
            await owner.store.delete([name])  # the recording was deleted meanwhile
            return
        self._stored.discard(segment.number)
        owner.grew(stored.size)
        await owner.drop(self.id, self._ring.add(stored, owner.clips.held_from(self.id)))
        owner.clips.stored(self.id, stored.last_us)
        owner.check_room(self)

    def opened(self, source: Source) -> None:
        """Note that the recording has started."""
        self._owner.note(self._owner.index.change(self.id, state="recording"))

    def noticed(self, notice: Notice) -> None:
        """Make a clip, if the notice reports a loss that this recording is to be clipped on."""
        if self.recording is not None:
            self._owner.watching.noticed(self.recording, notice)

    def ended(self, state: str, message: str, *, draining: bool) -> None:
        """Note the end; a recording that ended because the api stops goes on later."""
        self._owner.left(self, None if draining else (state, message))


class Recordings:
    """See the module.

    Args:
        reactor: The reactor.
        config: The section ``recordings``.
        captures: Starts captures.
        trail: Writes audit records.
        index: The index.
        store: The store.
    """

    log = Logger()

    def __init__(  # noqa: PLR0917
        self,
        reactor: Reactor,
        config: RecordingsConfig,
        captures: Captures,
        trail: Trail,
        index: Index,
        store: Store,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._captures = captures
        self._trail = trail
        self.index = index
        self.store = store
        self._running: dict[str, _Running] = {}
        self.clips = Clips(reactor, index, store, self, Explainer(reactor, store))
        self.watching = Watching(reactor, captures, self.clips, trail)
        self._bytes = 0
        self._swept_orphans_at: float | None = None
        self._sweeper = LoopingCall(lambda: Deferred.fromCoroutine(self._sweep()))
        self._sweeper.clock = reactor

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Continue the recordings that ran when the api ended, and delete what is too old."""
        self.index.start()
        self.store.start()
        self.clips.start()
        self.note(Deferred.fromCoroutine(self._resume_all()))
        self._sweeper.start(SWEEP_INTERVAL, now=False)

    def stop(self) -> None:
        """Close the index and the store; all captures have ended."""
        if self._sweeper.running:
            self._sweeper.stop()
        self.clips.stop()
        self.store.stop()
        self.index.stop()

    async def _resume_all(self) -> None:
        self._bytes = await self.index.total()
        await self.clips.resume()
        for recording in await self.index.listed(states=RUNNING):
            try:
                await self._resume(recording)
            except PcapdError as error:
                self.log.warn("recording {id} is not continued: {reason}", id=recording.id, reason=str(error))
                await self.index.change(
                    recording.id, state="failed", message=error.message, ended_us=now_us()
                )
        self.clips.settle()

    async def _resume(self, recording: Recording) -> None:
        request = request_of(recording.request)
        left = self._left(recording, request)
        if left <= 0:
            await self.index.change(
                recording.id, state="stopped", message="its time is over", ended_us=now_us()
            )
            return
        segments = await self.index.segments(recording.id)
        epoch = recording.epoch + 1
        await self.index.change(recording.id, epoch=epoch)
        since = segments[-1].last_us if segments else recording.since_us
        running = _Running(self, recording.id, epoch, Ring(segments, recording.keep, recording.keep_bytes))
        comment = (
            f"nothing was recorded from {since} to {now_us()} (microseconds since the epoch): the api ended"
        )
        request = dataclasses.replace(request, duration=left)
        recorder = self._recorder(running, request, comment)
        targets = tuple(target_of(values) for values in recording.targets)
        resolved = Resolved(recording.user, targets, identity=recording.identity, origin=recording.origin)
        running.recording = recording
        self._begin(running, self._captures.resume(recording.id, request, resolved, recorder), recorder)
        self.watching.watch_again(recording, request, resolved)

    def _left(self, recording: Recording, request: Request) -> float:
        longest = min(request.duration or self._config.max_duration, self._config.max_duration)
        return longest - (now_us() - recording.since_us) / _MICROS

    # --- start -------------------------------------------------------------

    async def create(self, order: Order, client: ClientInfo) -> dict[str, Any]:
        """Start a recording, and return it as JSON values.

        Raises:
            RequestError: The user may not capture this, or a limit is reached.
        """
        if order.request.follow:
            raise BadRequest("a recording cannot follow an app", "record its instances as they are now")
        id = str(uuid.uuid4())
        running = _Running(self, id, 1, Ring((), order.keep, order.keep_bytes))
        recorder = self._recorder(running, order.request, "")
        capture = await self._captures.begin(order.request, client.token, client, recorder)
        try:
            with asked_by(capture.user):
                self._admit(capture)
            recording = Recording(
                id=id,
                identity=capture.identity,
                user=capture.user,
                origin=capture.facts.resolved.origin,
                request=request_values(capture.request),
                targets=[dataclasses.asdict(target) for target in capture.targets],
                state="starting",
                since_us=now_us(),
                keep=order.keep,
                keep_bytes=order.keep_bytes,
                clip_on=order.clip_on,
                before=order.before,
                after=order.after,
                explain=order.explain,
            )
            self._running[id] = running
            running.identity = capture.identity
            running.recording = recording
            await self.watching.watch(recording, capture.request, capture.facts.resolved)
            await self.index.create(recording)
            self._begin(running, capture, recorder)
            self.watching.begun(id)
        except BaseException:
            self._running.pop(id, None)
            self.watching.ended(id)
            capture.abandon("the recording did not start")
            self._captures.released(capture)
            await self.index.remove(id)
            raise
        return described(recording, [])

    def _admit(self, capture: Capture) -> None:
        mine = sum(running.identity == capture.identity for running in self._running.values())
        if mine >= self._config.per_user:
            raise LimitReached(f"you already run {mine} recordings", "stop one of them")
        self.need_room()

    def need_room(self, size: int = 0) -> None:
        """Raise `NoRoom` if there is no room for so many more bytes."""
        free = self.store.free()
        full = self._bytes + size >= self._config.max_bytes
        if full or (free is not None and free - size < self._config.reserve):
            raise NoRoom("there is no room for recordings", "delete recordings, or ask the operator for room")

    def _recorder(self, running: _Running, request: Request, comment: str) -> Recorder:
        about = "; ".join(filter(None, (f"recording {running.id}", comment)))
        muxer = Muxer(Form.PCAPNG, request.snaplen, comment=about)
        return Recorder(self._reactor, muxer, running)

    def _begin(self, running: _Running, capture: Capture, recorder: Recorder) -> None:
        running.capture = capture
        running.recorder = recorder
        running.identity = capture.identity
        self._running[running.id] = running
        recorder.record(capture)
        capture.start()

    # --- called by running recordings ------------------------------------------

    def grew(self, size: int) -> None:
        """Count bytes that were stored."""
        self._bytes += size

    def check_room(self, running: _Running) -> None:
        """End a recording that has no more room."""
        try:
            self.need_room()
        except NoRoom as error:
            if running.capture is not None:
                running.capture.stop(EndReason.BYTES, error.message)

    def left(self, running: _Running, ended: tuple[str, str] | None) -> None:
        """Note that a recording runs no longer; with state and message if it has ended for good."""
        self._running.pop(running.id, None)
        self.watching.ended(running.id)
        capture, running.capture = running.capture, None
        if capture is not None:
            self._captures.released(capture)
        if ended is not None:
            state, message = ended
            self.note(self.index.change(running.id, state=state, message=message, ended_us=now_us()))
            self.clips.ended(running.id)

    async def drop(self, id: str, segments: list[Stored]) -> None:
        """Delete segments: first from the index, so that nobody reads them any longer."""
        if segments:
            await self.index.drop_segments(id, segments)
            self._bytes -= sum(segment.size for segment in segments)
            await self.store.delete([object_name(id, one.epoch, one.number) for one in segments])

    def note(self, done: Deferred[Any]) -> None:
        """Log the failure of something for which nobody waits."""
        done.addErrback(lambda failure: self.log.warn("{reason}", reason=failure.getErrorMessage()))

    def runs(self, id: str) -> bool:
        """Whether a recording runs in this process."""
        running = self._running.get(id)
        return running is not None and running.capture is not None

    def stop_one(self, id: str, why: str) -> None:
        """End a recording in good order, if it runs."""
        running = self._running.get(id)
        if running is not None and running.capture is not None:
            running.capture.stop(EndReason.STOPPED, why)

    def resolver(self, request: Request) -> Resolver:
        """The resolver of a request."""
        return self._captures.resolver(request)

    def finished(self) -> list[Deferred[None]]:
        """Fire when what runs now is stored."""
        return [running.recorder.finished for running in self._running.values() if running.recorder]

    async def remove(self, recording: Recording) -> None:
        """Delete a recording with everything in it; it is ended first if it runs."""
        self.stop_one(recording.id, "the recording was deleted")
        self.clips.forget(recording.id)
        clips = (await self.index.clips([recording.id]))[recording.id]
        await self.index.remove(recording.id)
        self._bytes -= recording.bytes + sum(clip.bytes for clip in clips)
        names = [name for name, _, _ in await self.store.list(f"{recording.id}/")]
        await self.store.delete(names)

    # --- what is too old ---------------------------------------------------------

    async def _sweep(self) -> None:
        """Delete recordings that ended long ago, and objects that the index does not know."""
        try:
            limit = now_us() - int(self._config.keep * _MICROS)
            ended = await self.index.listed(states=("stopped", "failed"))
            for recording in ended:
                if recording.ended_us is not None and recording.ended_us < limit:
                    self._trail.record("recording_expired", recording=recording.id, owner=recording.user)
                    await self.remove(recording)
            now = self._reactor.seconds()
            if self._swept_orphans_at is None or now - self._swept_orphans_at >= ORPHAN_AGE:
                self._swept_orphans_at = now
                await self._sweep_orphans()
        except PcapdError as error:
            self.log.warn("old recordings are not deleted: {reason}", reason=str(error))

    async def _sweep_orphans(self) -> None:
        known: set[str] = set()
        for recording in await self.index.listed():
            segments = await self.index.segments(recording.id)
            known |= {object_name(recording.id, one.epoch, one.number) for one in segments}
            clips = (await self.index.clips([recording.id]))[recording.id]
            known |= {clip_name(recording.id, one.number) for one in clips}
        old = now_us() / _MICROS - ORPHAN_AGE
        orphans = [
            name for name, _, changed in await self.store.list() if name not in known and changed < old
        ]
        if orphans:
            self.log.info("{count} objects that no recording has are deleted", count=len(orphans))
            await self.store.delete(orphans)
