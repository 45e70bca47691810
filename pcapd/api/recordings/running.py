"""A recording that runs in this process: its segments go to the store and to the index, and the oldest go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from pcapd.api.metrics import Metrics
from pcapd.api.recordings.clips import Clips
from pcapd.api.recordings.fetching import object_name
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.keeping import Ring
from pcapd.api.recordings.recorder import Recorded, Recorder
from pcapd.api.recordings.room import Room
from pcapd.api.recordings.segments import Segment
from pcapd.api.recordings.splice import Stored
from pcapd.api.recordings.store import Store
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.terms import Outcome
from pcapd.api.recordings.watching import Watching
from pcapd.errors import PcapdError, StateUnavailable
from pcapd.wire import Notice, Source

__all__ = ["Owner", "Running"]


class Owner(Protocol):
    """The part of `pcapd.api.recordings.service.Recordings` that a recording uses."""

    index: Index
    store: Store
    metrics: Metrics
    clips: Clips
    watching: Watching
    room: Room

    def check_room(self, running: Running, size: int) -> None:
        """End a recording that has no room for so many more bytes."""

    def opened(self, running: Running) -> None:
        """Handle that a recording has started."""

    def left(self, running: Running, ended: tuple[str, str] | None) -> None:
        """Note that a recording runs no longer; with state and message if it has ended for good."""

    def abandon(self, id: str) -> None:
        """End a recording that was deleted, if it runs."""

    def lost(self, id: str, epoch: int) -> None:
        """End a recording that another process records now."""

    def note(self, done: Deferred[Any]) -> None:
        """Log the failure of something for which nobody waits."""


class Running:
    """A recording that runs in this process; see `pcapd.api.recordings.recorder.Keeper`.

    Attributes:
        id: The recording's id.
        epoch: The present epoch.
        capture: Its capture; None before it starts and after its end.
        recorder: Its sink.
        recording: What is recorded.
        opened_once: Whether a source was opened in this epoch.
    """

    def __init__(  # noqa: PLR0917
        self, owner: Owner, id: str, epoch: int, ring: Ring, seconds: Callable[[], float], dropped: int = 0
    ) -> None:
        self._owner = owner
        self.id = id
        self.epoch = epoch
        self._ring = ring
        self._seconds = seconds
        self._stored: set[int] = set()  # numbers of segments whose object is stored, but not in the index
        self._unwanted: list[Stored] = []  # segments that the ring has dropped, and the index still has
        self.capture: Recorded | None = None
        self.recorder: Recorder | None = None
        self.recording: Recording | None = None
        self.opened_once = False
        self._dropped = dropped

    def keep(self, segment: Segment) -> Deferred[None]:
        """Store a segment, add it to the index, and delete what is not kept any longer."""
        return Deferred.fromCoroutine(self._keep(segment))

    async def _keep(self, segment: Segment) -> None:
        owner, name = self._owner, object_name(self.id, self.epoch, segment.number)
        stored = segment.described(self.epoch)
        try:
            if segment.number not in self._stored:
                await owner.store.put(name, segment.pieces)
                self._stored.add(segment.number)
            outcome = await owner.index.add_segment(self.id, stored, segment.dropped)
        except PcapdError:
            owner.metrics.segments_failed.inc()
            raise
        self._stored.discard(segment.number)
        if outcome is not Outcome.DONE:
            if outcome is Outcome.LOST:
                owner.lost(self.id, self.epoch)
            else:  # perhaps deleted before its capture started
                owner.abandon(self.id)
            owner.note(owner.store.delete([name]))
            return
        owner.room.used += stored.size
        owner.metrics.segments_stored.inc()
        self._count_drops(segment.dropped)
        # Failing to delete must not fail this: the segment is stored.
        gone = self._ring.add(stored, self._seconds(), owner.clips.held_from(self.id))
        owner.note(Deferred.fromCoroutine(self._drop(gone)))
        owner.clips.stored(self.id, stored.last_us)
        owner.check_room(self, stored.size)

    def quiet(self, up_to_us: int, dropped: int) -> None:
        """Note up to when the recording is complete, and delete what is not kept any longer."""
        self._count_drops(dropped)
        self._owner.note(self._owner.index.change(self.id, self.epoch, last_us=up_to_us, dropped=dropped))
        gone = self._ring.expired(self._seconds(), self._owner.clips.held_from(self.id))
        self._owner.note(Deferred.fromCoroutine(self._drop(gone)))
        self._owner.clips.stored(self.id, up_to_us)

    @property
    def awaited_us(self) -> int | None:
        """The time up to which a clip waits for packets, microseconds since the epoch; None without one."""
        return self._owner.clips.awaited_us(self.id)

    def complete(self, up_to_us: int) -> None:
        """Make the clips that waited for packets up to this time."""
        self._owner.clips.stored(self.id, up_to_us)

    def _count_drops(self, dropped: int) -> None:
        self._owner.metrics.recording_drops.inc(max(0, dropped - self._dropped))
        self._dropped = dropped

    async def _drop(self, segments: list[Stored]) -> None:
        """Delete segments: first from the index, so that nobody reads them any longer."""
        owner = self._owner
        self._unwanted += segments
        unwanted, self._unwanted = self._unwanted, []
        if not unwanted:
            return
        try:
            size = await owner.index.drop_segments(self.id, self.epoch, unwanted)
        except StateUnavailable:
            self._unwanted += unwanted
            raise
        if size is not None:  # otherwise another process records it, and drops them
            owner.room.used -= size
            owner.metrics.packets_deleted.inc(sum(one.packets for one in unwanted))
            await owner.store.delete([object_name(self.id, one.epoch, one.number) for one in unwanted])

    def opened(self, source: Source) -> None:
        """Note that the recording has started."""
        self.opened_once = True
        self._owner.opened(self)

    def noticed(self, notice: Notice) -> None:
        """Make a clip, if the notice reports a loss that this recording is to be clipped on."""
        if self.recording is not None:
            self._owner.watching.noticed(self.recording, notice)

    def ended(self, state: str, message: str, *, draining: bool) -> None:
        """Note the end; a recording that ended because the api stops goes on later."""
        self._owner.left(self, None if draining else (state, message))
