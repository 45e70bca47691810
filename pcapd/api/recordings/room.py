"""The bytes of all recordings, and whether there is room for more."""

from __future__ import annotations

from pcapd.api.recordings.store import Store
from pcapd.errors import NoRoom

__all__ = ["Room"]


class Room:
    """See the module.

    Args:
        store: The store.
        most: Bytes of all recordings together.
        reserve: Bytes of the store's disk that stay free.

    Attributes:
        used: Bytes of all segments and clips, of all apis, when they were seen last; and what was
            added here since.
    """

    def __init__(self, store: Store, most: int, reserve: int) -> None:
        self._store = store
        self._most = most
        self._reserve = reserve
        self.used = 0

    def need(self, size: int = 0) -> None:
        """Check that there is room for so many more bytes.

        Raises:
            NoRoom: There is none.
        """
        free = self._store.free()
        full = self.used + size >= self._most
        if full or (free is not None and free - size < self._reserve):
            raise NoRoom("there is no room for recordings", "delete recordings, or ask the operator for room")
