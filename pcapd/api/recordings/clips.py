"""Clips: the packets around an event, which are kept as an object of their own for good.

A clip is in the index before anything else happens; while it is open, the ring keeps the segments that
it needs.  Its object is made when all packets up to its end are stored, when the recording has ended,
or when they have been awaited for `limits.CLIP_PATIENCE`.  A clip that was open when the api ended is
made after the restart.

::

    open ──object stored──▶ done
      └──no packets, no room, or the store fails for too long──▶ failed
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pcapd.api.metrics import Metrics
from pcapd.api.recordings.explaining import Explainer
from pcapd.api.recordings.fetching import assemble, clip_file, clip_name
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.splice import Wanted
from pcapd.api.recordings.store import Store, StoreTrouble
from pcapd.api.recordings.tables import Clip
from pcapd.api.recordings.values import RUNNING
from pcapd.errors import LimitReached, NoRoom
from pcapd.limits import (
    CLIP_INTERVAL,
    CLIP_PATIENCE,
    CLIPS_AUTOMATIC_MAX,
    CLIPS_MAX,
    CLIPS_OPEN_MAX,
    REASON_MAX,
    STORE_PATIENCE,
    STORE_RETRY,
)
from pcapd.net.clock import cancel, now_us
from pcapd.net.reactor import Reactor

__all__ = ["Clips", "House", "printable"]

_MICROS = 1_000_000


class House(Protocol):
    """What clips need of the recordings."""

    metrics: Metrics

    def need_room(self, size: int = 0) -> None:
        """Raise `NoRoom` if there is no room for so many more bytes."""

    def grew(self, size: int) -> None:
        """Count bytes that were stored."""

    def runs(self, id: str) -> bool:
        """Whether a recording runs in this process."""


class _Open:
    """A clip whose object is not stored yet."""

    def __init__(self, clip: Clip, *, explain: bool) -> None:
        self.clip = clip
        self.explain = explain
        self.making = False
        self.timer: Any = None


class Clips:
    """See the module.

    Args:
        reactor: The reactor.
        index: The index.
        store: The store.
        house: The recordings.
        explainer: Explains clips.
    """

    log = Logger()

    def __init__(
        self, reactor: Reactor, index: Index, store: Store, house: House, explainer: Explainer
    ) -> None:
        self._reactor = reactor
        self._index = index
        self._store = store
        self._house = house
        self._explainer = explainer
        self._open: dict[str, list[_Open]] = {}
        self._last: dict[tuple[str, str], float] = {}  # when a cause made a clip, by recording and cause
        self._stopped = False

    # --- life --------------------------------------------------------------

    def start(self) -> None:
        """Allow clips to be explained."""
        self._explainer.start()

    async def resume(self) -> None:
        """Take up the clips that were open when the api ended; before any recording goes on."""
        for clip in await self._index.open_clips():
            recording = await self._index.get(clip.recording)
            if recording is not None and clip.number not in self._numbers(clip.recording):
                one = self._add(clip, explain=recording.explain)
                if recording.state not in RUNNING:
                    self._make(one)

    def _numbers(self, id: str) -> set[int]:
        return {one.clip.number for one in self._open.get(id, ())}

    def stop(self) -> None:
        """Make no more clips: the api ends."""
        self._stopped = True
        self._explainer.stop()
        for opened in self._open.values():
            for one in opened:
                cancel(one.timer)
        self._open.clear()

    # --- events --------------------------------------------------------------

    async def cut(
        self, id: str, reason: str, before: float, after: float, *, explain: bool = False, cause: str = ""
    ) -> Clip:
        """Open a clip around this moment.

        Args:
            id: The recording.
            reason: Why, for people.
            before: Seconds; ``after``: likewise.
            cause: What made it, if it was not a command: then there is at most one in
                `limits.CLIP_INTERVAL` of the same cause.

        Raises:
            LimitReached: There are too many clips.
            NoRoom: There is no room.
        """
        if cause:
            self._limit(id, cause)
        opened = self._open.get(id, ())
        if len(opened) >= CLIPS_OPEN_MAX:
            raise LimitReached(f"{len(opened)} clips of the recording are not finished", "try again later")
        self._house.need_room()
        now = now_us()
        wanted = Clip(id, 0, reason, now - int(before * _MICROS), now + int(after * _MICROS))
        # Added before the index is asked: from now on, the ring keeps its segments.
        one = self._add(wanted, explain=explain)
        one.making = True
        try:
            most = CLIPS_AUTOMATIC_MAX if cause else CLIPS_MAX
            if len((await self._index.clips([id]))[id]) >= most:
                raise LimitReached(f"the recording has {most} clips", "begin another recording")
            one.clip = await self._index.add_clip(wanted)
        except BaseException:
            self._remove(one)
            raise
        one.making = False
        if cause:
            self._last[id, cause] = self._reactor.seconds()
        self._house.metrics.clips_opened.labels(cause.partition(" ")[0] or "command").inc()
        self.log.info(
            "clip {number} of recording {id}: {reason}", number=one.clip.number, id=id, reason=reason
        )
        if not self._house.runs(id):
            self._make(one)
        return one.clip

    def _limit(self, id: str, cause: str) -> None:
        last = self._last.get((id, cause))
        left = 0.0 if last is None else last + CLIP_INTERVAL - self._reactor.seconds()
        if left > 0:
            error = LimitReached(f"the last clip of this cause is less than {CLIP_INTERVAL:g} s old")
            error.retry_after = int(left) + 1
            raise error

    # --- the recording goes on -----------------------------------------------

    def held_from(self, id: str) -> int | None:
        """The time from which segments are needed, microseconds since the epoch; None if none are."""
        return min((one.clip.first_us for one in self._open.get(id, ())), default=None)

    def awaited_us(self, id: str) -> int | None:
        """The end of the first clip that only waits for its last packets, microseconds since the epoch."""
        now = now_us()
        waiting = [one.clip.last_us for one in self._open.get(id, ()) if not one.making]
        return min((end_us for end_us in waiting if end_us <= now), default=None)

    def stored(self, id: str, up_to_us: int) -> None:
        """Handle that the packets up to this time are stored."""
        for one in list(self._open.get(id, ())):
            if up_to_us >= one.clip.last_us:
                self._make(one)

    def ended(self, id: str) -> None:
        """Handle that a recording has stored all that it will store."""
        for one in list(self._open.get(id, ())):
            self._make(one)
        for key in [key for key in self._last if key[0] == id]:
            del self._last[key]

    def forget(self, id: str) -> None:
        """Handle that a recording is deleted."""
        for one in self._open.pop(id, ()):
            cancel(one.timer)

    # --- making ----------------------------------------------------------------

    def _add(self, clip: Clip, *, explain: bool) -> _Open:
        one = _Open(clip, explain=explain)
        self._open.setdefault(clip.recording, []).append(one)
        delay = max(0.0, (clip.last_us - now_us()) / _MICROS) + CLIP_PATIENCE
        one.timer = self._reactor.callLater(delay, self._make, one)
        return one

    def _remove(self, one: _Open) -> None:
        cancel(one.timer)
        opened = self._open.get(one.clip.recording, [])
        if one in opened:
            opened.remove(one)
            if not opened:
                del self._open[one.clip.recording]

    def _make(self, one: _Open) -> None:
        if not one.making and not self._stopped:
            one.making = True
            cancel(one.timer)
            Deferred.fromCoroutine(self._finish(one)).addErrback(
                lambda failure: self.log.warn("a clip is not made: {why}", why=failure.getErrorMessage())
            )

    async def _finish(self, one: _Open) -> None:
        try:
            done = await self._write(one.clip)
        except NoRoom as error:
            self.log.warn(
                "clip {number} of {id}: {why}", number=one.clip.number, id=one.clip.recording, why=error
            )
            done = replace(one.clip, state="failed")
        if self._stopped:
            return  # made again after the restart
        values = {name: getattr(done, name) for name in ("state", "bytes", "first_us", "last_us")}
        there = await self._index.change_clip(done, **values)
        self._remove(one)
        if not there:  # the recording was deleted meanwhile
            await self._store.delete([clip_name(done.recording, done.number)])
            return
        self._house.grew(done.bytes)
        self._house.metrics.clips_ended.labels(done.state).inc()
        if one.explain and done.state == "done":
            findings = await self._explainer.explain(clip_file(self._store, done))
            await self._index.change_clip(done, findings=findings)

    async def _write(self, clip: Clip) -> Clip:
        """Write the object, and try again while the store fails."""
        since = self._reactor.seconds()
        while not self._stopped:
            try:
                return await self._write_once(clip)
            except StoreTrouble as error:
                self.log.warn(
                    "clip {number} of {id}: {why}", number=clip.number, id=clip.recording, why=error
                )
                if self._reactor.seconds() - since >= STORE_PATIENCE:
                    break
                await _later(self._reactor, STORE_RETRY)
        return replace(clip, state="failed")

    async def _write_once(self, clip: Clip) -> Clip:
        wanted = Wanted(clip.first_us, clip.last_us)
        segments = await self._index.segments(clip.recording, clip.first_us, clip.last_us)
        if not segments:
            return replace(clip, state="failed")
        file = await assemble(self._store, clip.recording, segments, wanted, lambda: None)
        self._house.need_room(file.size)
        await self._store.join(clip_name(clip.recording, clip.number), file.extracts)
        return replace(
            clip,
            state="done",
            bytes=file.size,
            first_us=max(clip.first_us, segments[0].first_us),
            last_us=min(clip.last_us, max(segment.last_us for segment in segments)),
        )


def _later(reactor: Reactor, seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    reactor.callLater(seconds, done.callback, None)
    return done


def printable(text: str) -> str:
    """A text as one line, not longer than `limits.REASON_MAX`."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= REASON_MAX else f"{line[: REASON_MAX - 1]}…"
