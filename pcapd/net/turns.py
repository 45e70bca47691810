"""A fair queue for work of which only a few items run at once.  Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, Protocol, TypeVar

__all__ = ["Queue"]


class Item(Protocol):
    """An item that waits for its turn."""

    @property
    def client(self) -> str:
        """The client whose share it counts against."""


T = TypeVar("T", bound=Item)


class Queue(Generic[T]):
    """The order of many clients' items.  It neither runs them nor waits.

    Clients take turns.  A client gets a place only while more places are free than it
    has already, so that one is left for the next client however long the work takes.
    When too many items wait in all, the client with the most loses its last item.

    Args:
        places: Items that run at once.
        waiting: Items that may wait, of all clients.
        waiting_each: Items that may wait, of one client.
    """

    def __init__(self, places: int, waiting: int, waiting_each: int) -> None:
        self._free = places
        self._bounds = waiting, waiting_each
        self._working: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()  # the next client first

    def add(self, item: T) -> T | None:
        """Add an item; returns the item that is removed for it, which may be itself."""
        in_all, of_each = self._bounds
        mine = self._waiting.setdefault(item.client, deque())
        mine.append(item)
        if len(mine) > of_each:
            return self.remove(item)
        if sum(map(len, self._waiting.values())) > in_all:
            longest = max(reversed(self._waiting.values()), key=len)
            return self.remove(longest[-1])
        return None

    def remove(self, item: T) -> T:
        """Remove an item that is no longer needed."""
        mine = self._waiting.get(item.client, deque())
        if item in mine:
            mine.remove(item)
            self._forget_if_empty(item.client)
        return item

    def take(self) -> T | None:
        """Give a place to the next item and return it; None if no item may have one."""
        for client, mine in self._waiting.items():
            if self._working[client] < self._free:
                self._free -= 1
                self._working[client] += 1
                self._waiting.move_to_end(client)
                item = mine.popleft()
                self._forget_if_empty(client)
                return item
        return None

    def give_back(self, client: str) -> None:
        """Free the place of an item of this client."""
        self._free += 1
        self._working[client] -= 1
        if not self._working[client]:
            del self._working[client]

    def _forget_if_empty(self, client: str) -> None:
        if not self._waiting[client]:
            del self._waiting[client]
