"""Deletes what is too old: recordings that ended long ago, and objects that no recording has."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pcapd.api.capture.audit import Trail
from pcapd.api.recordings.fetching import clip_name, object_name
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.store import Store
from pcapd.api.recordings.tables import Recording
from pcapd.errors import PcapdError
from pcapd.limits import ORPHAN_AGE, SWEEP_INTERVAL
from pcapd.net.clock import now_us
from pcapd.net.reactor import Reactor

__all__ = ["Sweeper"]

_MICROS: Final = 1_000_000
#: Directories and objects that an api makes.  Other objects, in a bucket that others use too, are left alone.
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OBJECT: Final = re.compile(_ID.pattern + r"/([0-9]{4,}/[0-9]{8,}|clips/[0-9]{8,}-[0-9]{4,})\.pcapng")


class Sweeper:
    """See the module.

    Args:
        reactor: The reactor.
        index: The index.
        store: The store.
        keep: Seconds after the end of a recording until it is deleted.
        trail: Writes audit records.
        remove: Deletes a recording.
        catch_up: Does again what failed earlier; called at the beginning of each sweep.
    """

    log = Logger()

    def __init__(  # noqa: PLR0917
        self,
        reactor: Reactor,
        index: Index,
        store: Store,
        keep: float,
        trail: Trail,
        remove: Callable[[Recording], Awaitable[None]],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._reactor = reactor
        self._index = index
        self._store = store
        self._keep = keep
        self._trail = trail
        self._remove = remove
        self._catch_up = catch_up
        self._orphans_at: float | None = None
        self._caller = LoopingCall(lambda: Deferred.fromCoroutine(self._sweep()))
        self._caller.clock = reactor

    def start(self) -> None:
        """Sweep every `SWEEP_INTERVAL`."""
        self._caller.start(SWEEP_INTERVAL, now=False)

    def stop(self) -> None:
        """Sweep no more."""
        if self._caller.running:
            self._caller.stop()

    async def _sweep(self) -> None:
        try:
            await self._catch_up()
            await self._sweep_ended()
            now = self._reactor.seconds()
            if self._orphans_at is None or now - self._orphans_at >= ORPHAN_AGE:
                self._orphans_at = now
                await self._sweep_orphans()
        except PcapdError as error:
            self.log.warn("old recordings are not deleted: {reason}", reason=str(error))
        except Exception:  # noqa: BLE001 - a defect; the next sweep may do better
            self.log.failure("old recordings are not deleted")

    async def _sweep_ended(self) -> None:
        limit = now_us() - int(self._keep * _MICROS)
        for recording in await self._index.listed(states=("stopped", "failed")):
            ended_us = recording.ended_us
            if ended_us is None or ended_us >= limit:
                continue
            # Another api may sweep at the same time: one deletes it.
            if await self._index.claim_ended(recording.id, recording.epoch):
                self._trail.record("recording_expired", recording=recording.id, owner=recording.user)
                await self._remove(recording)

    async def _sweep_orphans(self) -> None:
        count = await self._store.tidy(ORPHAN_AGE)
        for id in await self._store.directories():
            if _ID.fullmatch(id):
                orphans = await self._orphans(id)
                await self._store.delete(orphans)
                count += len(orphans)
        if count:
            self.log.info("{count} objects that no recording has are deleted", count=count)

    async def _orphans(self, id: str) -> list[str]:
        # Listed before the index is read, so that a segment which is stored meanwhile is none.
        objects = await self._store.list(f"{id}/")
        known = {object_name(id, one.epoch, one.number) for one in await self._index.segments(id)}
        known |= {clip_name(clip) for clip in (await self._index.clips([id]))[id]}
        old = now_us() / _MICROS - ORPHAN_AGE
        return [
            name
            for name, _, changed in objects
            if name not in known and changed < old and _OBJECT.fullmatch(name)
        ]
