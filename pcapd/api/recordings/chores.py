"""What failed and is done again later: noting ends in the index, and deletions."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from twisted.logger import Logger

from pcapd.api.recordings.index import Index
from pcapd.api.recordings.store import Store, StoreTrouble
from pcapd.net.clock import now_us

__all__ = ["Chores"]


class Chores:
    """See the module.

    Args:
        index: The index.
        store: The store.
        terms: The recordings that this process holds, with their epochs.
    """

    log = Logger()

    def __init__(self, index: Index, store: Store, terms: MutableMapping[str, int]) -> None:
        self._index = index
        self._store = store
        self._terms = terms
        self._ends: dict[str, tuple[int, dict[str, Any]]] = {}
        #: Recordings that did not start, and may be in the index.
        self.unstarted: set[str] = set()
        self._uncleared: set[str] = set()  # deleted recordings whose objects may be left

    @property
    def troubled(self) -> bool:
        """Whether there are ends that are not in the index yet."""
        return bool(self._ends)

    async def end(self, id: str, state: str, message: str) -> None:
        """Note the end of a recording that this process holds."""
        if id in self._terms:
            values = {"state": state, "message": message, "ended_us": now_us()}
            self._ends[id] = self._terms[id], values
            await self.write()

    async def not_started(self, id: str) -> None:
        """Remove a recording that did not start; it may be on its way to the index."""
        self.unstarted.add(id)
        await self.write()

    async def write(self) -> None:
        """Write to the index what is not there yet."""
        for id, (epoch, values) in list(self._ends.items()):
            await self._index.change(id, epoch, **values)
            # Also if it was refused: then its end is up to its present holder.
            self.forget(id)
        for id in list(self.unstarted):
            await self._index.remove(id)  # statements run in order
            self.unstarted.discard(id)

    def forget(self, id: str) -> None:
        """Handle that a recording has ended, or that this process holds it no longer."""
        self._ends.pop(id, None)
        self._terms.pop(id, None)

    async def clear(self, id: str) -> None:
        """Delete the objects of a deleted recording: nobody can read them any longer."""
        self._uncleared.add(id)
        try:
            await self._store.clear(f"{id}/")
        except StoreTrouble as error:
            self.log.warn("objects of a deleted recording are left: {reason}", reason=str(error))
        else:
            self._uncleared.discard(id)

    async def catch_up(self) -> None:
        """Do again what failed earlier."""
        await self.write()
        for id in list(self._uncleared):
            await self._store.clear(f"{id}/")
            self._uncleared.discard(id)
