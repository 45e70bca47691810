"""Recordings: captures whose sink is the store, so that they go on when nobody is connected.

A recording is in the index before its capture starts.  It survives a restart of the api: the agents are
dialled again in a new epoch, and the gap is stated in the file.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pcapd.api.capture.audit import Trail
from pcapd.api.capture.life import Capture
from pcapd.api.capture.sink import Sink
from pcapd.api.http.web import ClientInfo
from pcapd.api.metrics import Metrics
from pcapd.api.recordings.clips import Clips
from pcapd.api.recordings.explaining import Explainer
from pcapd.api.recordings.fetching import object_name
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.keeping import Ring
from pcapd.api.recordings.owners import check_follow, present, standing_values
from pcapd.api.recordings.recorder import Recorded, Recorder
from pcapd.api.recordings.redialling import Redialling
from pcapd.api.recordings.resuming import Resuming
from pcapd.api.recordings.running import Running
from pcapd.api.recordings.splice import Stored
from pcapd.api.recordings.store import Store, StoreTrouble
from pcapd.api.recordings.sweeping import Sweeper
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.tee import ClientSide, Tee
from pcapd.api.recordings.values import RUNNING, Order, described, request_of, request_values
from pcapd.api.recordings.watching import Captures, Watching
from pcapd.api.resolvers.base import Resolver, asked_by
from pcapd.config.schema import RecordingsConfig
from pcapd.errors import (
    LimitReached,
    NoRoom,
    StateUnavailable,
)
from pcapd.merge.muxer import Muxer
from pcapd.net.clock import now_us, rfc3339
from pcapd.net.reactor import Reactor
from pcapd.savefile.form import Form
from pcapd.wire import Besides, EndReason, Request

__all__ = ["RUNNING", "Recordings"]

_MICROS = 1_000_000


class Recordings:
    """See the module.

    Args:
        reactor: The reactor.
        config: The section ``recordings``.
        captures: Starts captures.
        trail: Writes audit records.
        index: The index.
        store: The store.
        metrics: The metrics of the api.
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
        metrics: Metrics,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._captures = captures
        self._trail = trail
        self.index = index
        self.store = store
        self._running: dict[str, Running] = {}
        self.metrics = metrics
        self.clips = Clips(reactor, index, store, self, Explainer(reactor, store))
        self.watching = Watching(reactor, captures, self.clips, trail)
        self._bytes = 0
        self._ends: dict[str, dict[str, Any]] = {}  # ends that are not in the index yet, by id
        self._uncleared: set[str] = set()  # deleted recordings whose objects may be left
        self._resuming = Resuming(reactor, index, self._resume, self.finish)
        self._sweeper = Sweeper(reactor, index, store, config.keep, trail, self.remove, self._catch_up)
        metrics.recordings(lambda: len(self._running), lambda: self._bytes, lambda: self.troubled, config)

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Continue the recordings that ran when the api ended, and delete what is too old."""
        self.store.start()
        self.clips.start()
        self._resuming.start(self._read)
        self._sweeper.start()

    def stop(self) -> None:
        """Close the store; all captures have ended."""
        self._sweeper.stop()
        self._resuming.stop()
        self.clips.stop()
        self.store.stop()

    async def _read(self) -> None:
        self._bytes = await self.index.total()
        await self.clips.resume()

    @property
    def troubled(self) -> bool:
        """Whether segments cannot be stored at present, or the index cannot be read."""
        recorders = [running.recorder for running in self._running.values() if running.recorder]
        return self._resuming.troubled or bool(self._ends) or any(one.troubled for one in recorders)

    async def _resume(self, recording: Recording) -> None:
        """Continue a recording in a new epoch."""
        self._captures.accepting()
        request = request_of(recording.request)
        left = self._left(recording, request)
        most = None
        if request.max_bytes is not None:
            most = request.max_bytes - recording.bytes - recording.deleted_bytes
        if left <= 0 or (most is not None and most <= 0):
            await self.finish(
                recording.id, "stopped", "its time is over" if left <= 0 else "its bytes are over"
            )
            return
        resolved = await present(recording, self.resolver(request), self._trail, self.finish)
        if resolved is None:
            return
        epoch = recording.epoch + 1
        await self.index.change(recording.id, epoch=epoch)
        segments = await self.index.segments(recording.id)
        ring = Ring(recording.keep, recording.keep_bytes)
        ring.restore(segments, self._reactor.seconds(), now_us())
        if not self._resuming.waits(recording.id):
            return  # it was stopped or deleted meanwhile
        running = Running(self, recording.id, epoch, ring, self._reactor.seconds, recording.dropped)
        since = recording.since_us if recording.last_us is None else recording.last_us
        gap = f"nothing was recorded from {rfc3339(since)} to {rfc3339(now_us())}: the api did not run"
        request = dataclasses.replace(request, duration=left, max_bytes=most)
        recorder = self._recorder(running, request, gap, recording.dropped)
        capture = self._captures.resume(recording.id, request, resolved, recorder)
        running.recording = recording
        try:
            self._begin(running, capture, recorder)
            self.watching.watch_again(recording, request, resolved)
        except BaseException:
            self._undo(running, capture, recorder)
            raise

    def _left(self, recording: Recording, request: Request) -> float:
        longest = min(request.duration or self._config.max_duration, self._config.max_duration)
        return longest - (now_us() - recording.since_us) / _MICROS

    # --- start -------------------------------------------------------------

    async def create(self, order: Order, client: ClientInfo) -> dict[str, Any]:
        """Start a recording, and return it as JSON values.

        When the client leaves before this returns, there is no recording.  When it leaves later, without the
        answer, the recording is in its user's list.

        Raises:
            RequestError: The user may not capture this, or a limit is reached.
        """
        check_follow(order.request, self._captures.resolver(order.request))
        recording, _ = await self._create(order, client.token, client, None)
        return described(recording, [])

    def beside(
        self, request: Request, token: str | None, client: ClientInfo, sink: Sink
    ) -> Deferred[ClientSide]:
        """Start a live capture that is recorded besides; fires with what the client uses as its capture."""
        return Deferred.fromCoroutine(self._beside(request, token, client, sink))

    async def _beside(
        self, request: Request, token: str | None, client: ClientInfo, sink: Sink
    ) -> ClientSide:
        wanted = request.record or Besides()
        order = Order(dataclasses.replace(request, record=None), wanted.keep, wanted.keep_bytes)
        _, tee = await self._create(order, token, client, sink)
        assert tee is not None, "there is a sink"
        return tee.client_side

    async def _create(
        self, order: Order, token: str | None, client: ClientInfo, sink: Sink | None
    ) -> tuple[Recording, Tee | None]:
        await self._resuming.known()
        if not self._resuming.ready:  # then nobody knows how many recordings there are
            raise StateUnavailable("the index of recordings cannot be read", "try again later")
        id = str(uuid.uuid4())
        running = Running(self, id, 1, Ring(order.keep, order.keep_bytes), self._reactor.seconds)
        recorder = self._recorder(running, order.request, "")
        tee = None if sink is None else Tee(self._reactor, sink, recorder, id)
        capture = await self._captures.begin(order.request, token, client, tee or recorder)
        try:
            with asked_by(capture.user):
                self._admit(capture)
            recording = Recording(
                id=id,
                identity=capture.identity,
                user=capture.user,
                origin=capture.facts.resolved.origin,
                request=request_values(dataclasses.replace(capture.request, duration=capture.facts.duration)),
                targets=[dataclasses.asdict(target) for target in capture.targets],
                state="starting",
                since_us=now_us(),
                keep=order.keep,
                keep_bytes=order.keep_bytes,
                clip_on=order.clip_on,
                before=order.before,
                after=order.after,
                explain=order.explain,
                standing=standing_values(capture.facts.resolved.standing),
            )
            self._running[id] = running
            running.identity = capture.identity
            running.recording = recording
            await self.watching.watch(recording, capture.request, capture.facts.resolved)
            await self.index.create(recording)
            self._begin(running, capture, recorder, tee)
            self.watching.begun(id)
        except BaseException:
            self._undo(running, capture, recorder)
            # Statements run in order, so this also removes what is being added at present.
            self.note(self.index.remove(id))
            raise
        return recording, tee

    def _undo(
        self,
        running: Running,
        capture: Recorded,
        recorder: Recorder,
        why: str = "the recording did not start",
    ) -> None:
        """Forget a recording, without storing what is left of it."""
        self._running.pop(running.id, None)
        running.capture = None
        self.watching.ended(running.id)
        recorder.cancel()
        capture.abandon(why)
        if isinstance(capture, Capture):  # a tee releases its own
            self._captures.released(capture)

    def _admit(self, capture: Capture) -> None:
        running = {one.id for one in self._running.values() if one.identity == capture.identity}
        mine = len(running | self._resuming.of(capture.identity))
        if mine >= self._config.per_user:
            raise LimitReached(f"you already run {mine} recordings", "stop one of them")
        self.need_room()

    def need_room(self, size: int = 0) -> None:
        """Raise `NoRoom` if there is no room for so many more bytes."""
        free = self.store.free()
        full = self._bytes + size >= self._config.max_bytes
        if full or (free is not None and free - size < self._config.reserve):
            raise NoRoom("there is no room for recordings", "delete recordings, or ask the operator for room")

    def _recorder(self, running: Running, request: Request, comment: str, dropped: int = 0) -> Recorder:
        about = "; ".join(filter(None, (f"recording {running.id}", comment)))
        muxer = Muxer(Form.PCAPNG, request.snaplen, comment=about)
        return Recorder(self._reactor, muxer, running, dropped)

    def _begin(self, running: Running, capture: Capture, recorder: Recorder, tee: Tee | None = None) -> None:
        running.capture = side = capture if tee is None else tee.begin(capture, self._captures.released)
        running.recorder = recorder
        running.identity = capture.identity
        self._running[running.id] = running
        recorder.record(side)
        if tee is None:  # otherwise it is a capture as always, which its client starts
            if capture.watcher is None:  # one that follows an app finds its instances by itself
                capture.watcher = redialling = Redialling(self._reactor, capture)
                capture.finished.addCallback(lambda _: redialling.stop())
            capture.start()

    # --- called by running recordings ------------------------------------------

    def grew(self, size: int) -> None:
        """Count the bytes of a segment or a clip that was stored."""
        self._bytes += size

    def check_room(self, running: Running) -> None:
        """End a recording that has no more room."""
        try:
            self.need_room()
        except NoRoom as error:
            if running.capture is not None:
                running.capture.stop(EndReason.BYTES, error.message)

    def opened(self, running: Running) -> None:
        """Note that a recording has started."""
        self._resuming.forget(running.id)
        self.note(self.index.change(running.id, state="recording"))

    def left(self, running: Running, ended: tuple[str, str] | None) -> None:
        """Note that a recording runs no longer; with state and message if it has ended for good."""
        self._running.pop(running.id, None)
        self.watching.ended(running.id)
        capture, running.capture = running.capture, None
        if isinstance(capture, Capture):
            self._captures.released(capture)
        if ended is None:
            return
        state, message = ended
        if state == "failed" and running.epoch > 1 and not running.opened_once:
            # The agents may start later than the api, for example after the whole machine was started.
            self._resuming.again(running.id, running.identity, message)
        else:
            self._resuming.forget(running.id)
            self.note(Deferred.fromCoroutine(self.finish(running.id, state, message)))
            self.clips.ended(running.id)

    async def finish(self, id: str, state: str, message: str) -> None:
        """Note the end of a recording in the index; if this fails, it is tried again later."""
        self._resuming.forget(id)
        self._ends[id] = {"state": state, "message": message, "ended_us": now_us()}
        await self._write_ends()

    async def _write_ends(self) -> None:
        for id, values in list(self._ends.items()):
            await self.index.change(id, **values)
            self._ends.pop(id, None)

    async def _catch_up(self) -> None:
        """Do again what failed earlier."""
        await self._write_ends()
        for id in list(self._uncleared):
            await self.store.clear(f"{id}/")
            self._uncleared.discard(id)
        self.metrics.kept(*await self.index.summary())

    async def drop(self, id: str, segments: list[Stored]) -> None:
        """Delete segments: first from the index, so that nobody reads them any longer."""
        if segments:
            self._bytes -= await self.index.drop_segments(id, segments)
            self.metrics.packets_deleted.inc(sum(segment.packets for segment in segments))
            await self.store.delete([object_name(id, one.epoch, one.number) for one in segments])

    def note(self, done: Deferred[Any]) -> None:
        """Log the failure of something for which nobody waits."""
        done.addErrback(lambda failure: self.log.warn("{reason}", reason=failure.getErrorMessage()))

    def runs(self, id: str) -> bool:
        """Whether a recording runs in this process."""
        running = self._running.get(id)
        return self._resuming.waits(id) or (running is not None and running.capture is not None)

    def stop_one(self, id: str, why: str) -> None:
        """End a recording in good order, if it runs."""
        running = self._running.get(id)
        if running is not None and running.capture is not None:
            running.capture.stop(EndReason.STOPPED, why)
        elif self._resuming.forget(id):
            self.note(Deferred.fromCoroutine(self.finish(id, "stopped", why)))

    def resolver(self, request: Request) -> Resolver:
        """The resolver of a request."""
        return self._captures.resolver(request)

    def abandon(self, id: str) -> None:
        """End a recording that was deleted, if it runs."""
        self._resuming.forget(id)
        running = self._running.get(id)
        if running is not None and running.capture is not None and running.recorder is not None:
            self._undo(running, running.capture, running.recorder, "the recording was deleted")

    def finished(self) -> list[Deferred[None]]:
        """Fire when what runs now is stored."""
        return [running.recorder.finished for running in self._running.values() if running.recorder]

    async def remove(self, recording: Recording) -> None:
        """Delete a recording with everything in it; it is ended first if it runs."""
        self.abandon(recording.id)
        self.clips.forget(recording.id)
        self._bytes -= await self.index.remove(recording.id)
        self.metrics.packets_deleted.inc(recording.packets)
        self._uncleared.add(recording.id)
        try:
            await self.store.clear(f"{recording.id}/")
        except StoreTrouble as error:  # nobody can read them any longer, and they are deleted later
            self.log.warn("objects of a deleted recording are left: {reason}", reason=str(error))
        else:
            self._uncleared.discard(recording.id)
