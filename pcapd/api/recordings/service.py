"""Recordings: captures whose sink is the store, so that they go on when nobody is connected.

A recording is in the index before its capture starts.  It survives a restart of the api, and its end if
there are others: the agents are dialled again in a new epoch, and the gap is stated in the file.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Set
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pcapd.api.capture.audit import Trail
from pcapd.api.capture.life import Capture
from pcapd.api.capture.sink import Sink
from pcapd.api.http.web import ClientInfo
from pcapd.api.metrics import Metrics
from pcapd.api.recordings.chores import Chores
from pcapd.api.recordings.clips import Clips
from pcapd.api.recordings.explaining import Explainer
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.keeping import Ring
from pcapd.api.recordings.owners import check_follow, present
from pcapd.api.recordings.recorder import Recorded, Recorder
from pcapd.api.recordings.redialling import Redialling
from pcapd.api.recordings.resuming import Resuming
from pcapd.api.recordings.room import Room
from pcapd.api.recordings.running import Running
from pcapd.api.recordings.spool import Spool
from pcapd.api.recordings.store import Store
from pcapd.api.recordings.sweeping import Sweeper
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.takeover import Takeover
from pcapd.api.recordings.tee import ClientSide, Tee
from pcapd.api.recordings.values import RUNNING, Order, described, gap_of, remaining
from pcapd.api.recordings.watching import Captures, Watching
from pcapd.api.resolvers.base import Resolver, asked_by
from pcapd.api.state.holding import Holding
from pcapd.config.schema import RecordingsConfig
from pcapd.errors import NoRoom, StateUnavailable
from pcapd.merge.muxer import Muxer
from pcapd.net.clock import now_us
from pcapd.net.reactor import Reactor
from pcapd.savefile.form import Form
from pcapd.wire import Besides, EndReason, Request

__all__ = ["Recordings"]


class Recordings:
    """See the module.

    Args:
        reactor: The reactor.
        config: The section ``recordings``.
        captures: Starts captures.
        trail: Writes audit records.
        index: The index.
        store: The store.
        spool: Where segments wait.
        metrics: The metrics of the api.
        holding: This process, as one that holds recordings.
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
        spool: Spool,
        metrics: Metrics,
        holding: Holding,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._captures = captures
        self._trail = trail
        self.index = index
        self.store = store
        self._spool = spool
        self._running: dict[str, Running] = {}
        self.metrics = metrics
        self.clips = Clips(reactor, index, store, self, Explainer(reactor, store))
        self.watching = Watching(reactor, captures, self.clips, trail)
        self.room = Room(store, config.max_bytes, config.reserve)
        self._holding = holding
        self.terms: dict[str, int] = {}  # what this process holds: epochs by recording
        self.chores = Chores(index, store, self.terms)
        self.resuming = Resuming(reactor, index, captures.accepting, self)
        self._takeover = Takeover(reactor, holding, self)
        self._sweeper = Sweeper(reactor, index, store, config.keep, trail, self.remove, self._catch_up)
        metrics.recordings(
            lambda: len(self._running),
            lambda: self.room.used,
            lambda: spool.used,
            lambda: self.troubled,
            config,
        )

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Continue the recordings that ran when the api ended, and delete what is too old."""
        self.store.start()
        self._spool.start()
        self.clips.start()
        self.resuming.start(self._takeover.look)
        self._takeover.start()
        self._sweeper.start()

    def drain(self) -> list[Deferred[None]]:
        """Begin nothing more; fire when what runs now is stored, and given up."""
        self.resuming.stop()
        for id in self.resuming.waiting() & self.terms.keys():
            self._give_up(id)
        return [running.recorder.finished for running in self._running.values() if running.recorder]

    def stop(self) -> None:
        """Close the store; all captures have ended."""
        self._sweeper.stop()
        self._takeover.stop()
        self.clips.stop()
        self.note(self.index.release_all())
        self.store.stop()
        self._spool.stop()

    def _give_up(self, id: str) -> None:
        """Let another process continue a recording."""
        self.note(self.index.release(id, self.terms.pop(id)))

    @property
    def troubled(self) -> bool:
        """Whether segments cannot be stored at present, or the index cannot be read."""
        recorders = [running.recorder for running in self._running.values() if running.recorder]
        return self.resuming.troubled or self.chores.troubled or any(one.troubled for one in recorders)

    def taken(self, recording: Recording) -> None:
        """Handle that this process has begun a term of a recording."""
        if not self._holding.alone and recording.state in RUNNING:
            self.metrics.recordings_taken.inc()
            self._trail.note("recording_taken_over", recording=recording.id, owner=recording.user)
            self.log.info("recording {id} goes on here: no other api records it any longer", id=recording.id)

    async def resume(self, recording: Recording) -> None:
        """Continue a recording in its new epoch."""
        request = remaining(recording, self._config.max_duration, now_us())
        if isinstance(request, str):
            await self.finish(recording.id, "stopped", request)
            return
        resolved = await present(recording, self.resolver(request), self._trail, self.finish)
        if resolved is None:
            return
        segments = await self.index.segments(recording.id)
        ring = Ring(recording.keep, recording.keep_bytes)
        ring.restore(segments, self._reactor.seconds(), now_us())
        if not self.resuming.waits(recording.id):
            return  # it was stopped or deleted meanwhile
        running = Running(self, recording.id, recording.epoch, ring, self._reactor.seconds, recording.dropped)
        gap = gap_of(recording, now_us(), alone=self._holding.alone)
        recorder = self._recorder(running, request, gap, recording.dropped)
        capture = self._captures.resume(recording.id, request, resolved, recorder)
        running.recording = recording
        try:
            self._begin(running, capture, recorder)
            self.watching.watch_again(recording, request, resolved)
        except BaseException:
            self._undo(running, capture, recorder)
            raise

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
        await self.resuming.known()
        if not self.resuming.ready:  # then nobody knows how many recordings there are
            raise StateUnavailable("the index of recordings cannot be read", "try again later")
        id = str(uuid.uuid4())
        running = Running(self, id, 1, Ring(order.keep, order.keep_bytes), self._reactor.seconds)
        recorder = self._recorder(running, order.request, "")
        tee = None if sink is None else Tee(self._reactor, sink, recorder, id)
        capture = await self._captures.begin(order.request, token, client, tee or recorder)
        try:
            self.room.need()
            request = dataclasses.replace(capture.request, duration=capture.facts.duration)
            recording = order.recording(id, request, capture.facts.resolved, now_us())
            self._running[id] = running
            running.recording = recording
            await self.watching.watch(recording, capture.request, capture.facts.resolved)
            with asked_by(capture.user):
                await self.index.create(recording, self._config.per_user)
            self.terms[id] = 1
            self._begin(running, capture, recorder, tee)
            self.watching.begun(id)
        except BaseException:
            self._undo(running, capture, recorder)
            self.terms.pop(id, None)
            self.note(Deferred.fromCoroutine(self.chores.not_started(id)))
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

    def _recorder(self, running: Running, request: Request, comment: str, dropped: int = 0) -> Recorder:
        about = "; ".join(filter(None, (f"recording {running.id}", comment)))
        muxer = Muxer(Form.PCAPNG, request.snaplen, comment=about)
        return Recorder(self._reactor, muxer, running, self._spool, dropped)

    def _begin(self, running: Running, capture: Capture, recorder: Recorder, tee: Tee | None = None) -> None:
        running.capture = side = capture if tee is None else tee.begin(capture, self._captures.released)
        running.recorder = recorder
        self._running[running.id] = running
        recorder.record(side)
        if tee is None:  # otherwise it is a capture as always, which its client starts
            if capture.watcher is None:  # one that follows an app finds its instances by itself
                capture.watcher = redialling = Redialling(self._reactor, capture)
                capture.finished.addCallback(lambda _: redialling.stop())
            capture.start()

    # --- called by running recordings ------------------------------------------

    def check_room(self, running: Running, size: int) -> None:
        """End a recording that has no room for so many more bytes: its next segment may be as large."""
        try:
            self.room.need(size)
        except NoRoom as error:
            if running.capture is not None:
                running.capture.stop(EndReason.BYTES, error.message)

    def opened(self, running: Running) -> None:
        """Note that a recording has started."""
        self.resuming.forget(running.id)
        self.note(self.index.change(running.id, running.epoch, state="recording"))

    def left(self, running: Running, ended: tuple[str, str] | None) -> None:
        """Note that a recording runs no longer; with state and message if it has ended for good."""
        self._running.pop(running.id, None)
        self.watching.ended(running.id)
        capture, running.capture = running.capture, None
        if isinstance(capture, Capture):
            self._captures.released(capture)
        if ended is None:
            if running.id in self.terms:
                self._give_up(running.id)
            return
        state, message = ended
        if state == "failed" and running.epoch > 1 and not running.opened_once:
            # The agents may start later than the api, for example after the whole machine was started.
            self.resuming.again(running.id, running.epoch, message)
        else:
            self.note(Deferred.fromCoroutine(self.finish(running.id, state, message)))
            self.clips.ended(running.id)

    async def finish(self, id: str, state: str, message: str) -> None:
        """Note the end of a recording in the index; if this fails, it is tried again later."""
        self.resuming.forget(id)
        await self.chores.end(id, state, message)

    async def _catch_up(self) -> None:
        """Do again what failed earlier."""
        await self.chores.catch_up()
        self.metrics.kept(*await self.index.summary())

    def note(self, done: Deferred[Any]) -> None:
        """Log the failure of something for which nobody waits."""
        done.addErrback(lambda failure: self.log.warn("{reason}", reason=failure.getErrorMessage()))

    def runs(self, id: str) -> bool:
        """Whether a recording runs in this process."""
        running = self._running.get(id)
        return self.resuming.waits(id) or (running is not None and running.capture is not None)

    def runs_somewhere(self, recording: Recording) -> bool:
        """Whether a recording runs: in this process, or as far as is known in another one."""
        return recording.state in RUNNING and (self.runs(recording.id) or not self.holds(recording))

    def holds(self, recording: Recording) -> bool:
        """Whether this process holds a recording, which may have ended."""
        return recording.holder == self._holding.id

    async def stop_one(self, id: str, why: str) -> None:
        """End a recording in good order; soon, if another process holds it.

        Raises:
            StateUnavailable: The process that holds it cannot be asked.
        """
        if self.runs(id):
            self.end(id, why)
        else:
            await self.index.ask_to_end(id, why)

    def resolver(self, request: Request) -> Resolver:
        """The resolver of a request."""
        return self._captures.resolver(request)

    def abandon(self, id: str) -> None:
        """End a recording that was deleted, if it runs."""
        self.clips.forget(id)
        self._leave(id, "the recording was deleted")

    def _leave(self, id: str, why: str) -> None:
        self.chores.forget(id)
        self.resuming.forget(id)
        running = self._running.get(id)
        if running is not None and running.capture is not None and running.recorder is not None:
            self._undo(running, running.capture, running.recorder, why)

    async def remove(self, recording: Recording) -> None:
        """Delete a recording with everything in it; it is ended first if it runs."""
        self.abandon(recording.id)
        self.room.used -= await self.index.remove(recording.id)
        self.metrics.packets_deleted.inc(recording.packets)
        await self.chores.clear(recording.id)

    # --- called by `pcapd.api.recordings.takeover` --------------------------------

    def busy(self) -> Set[str]:
        """The recordings that begin at present, or that are being continued."""
        return self._running.keys() | self.resuming.waiting() | self.chores.unstarted

    def lost(self, id: str, epoch: int) -> None:
        """End a recording in this process, because another one holds it."""
        if self.terms.get(id) == epoch:
            self.log.warn("recording {id} is not recorded here any longer: another api holds it", id=id)
            self.metrics.recordings_lost.inc()
            self.clips.forget(id)
            self._leave(id, "another api records it")

    def end(self, id: str, why: str) -> None:
        """End a recording that runs in this process, in good order."""
        running = self._running.get(id)
        if running is not None and running.capture is not None:
            running.capture.stop(EndReason.STOPPED, why)
        else:
            self.resuming.end(id, why)
