"""A fair queue for work of which only a few items run at once.  Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, Protocol, TypeVar

__all__ = ["Queue"]


class Item(Protocol):
    """An item that waits for its turn."""

    @property
    def client(self) -> str:
        """The client whose item this is."""


T = TypeVar("T", bound=Item)


class Queue(Generic[T]):
    """Determines the order in which many clients' items run.  It does not run them.

    Clients take turns.  A place is a permission for one item to run.  A client gets another place
    only if more places are free than the client has, so that one place remains for the next
    client, however long the work takes.  If too many items wait in all, the last item of the
    client with the most waiting items is removed.

    Args:
        places: Number of items that run at the same time.
        waiting: Number of items of all clients that may wait.
        waiting_each: Number of items of one client that may wait.
    """

    def __init__(self, places: int, waiting: int, waiting_each: int) -> None:
        self._free = places
        self._bounds = waiting, waiting_each
        self._working: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()  # the next client first

    def add(self, item: T) -> T | None:
        """Add an item; return the item that is removed to make room (it may be the same one), or None."""
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
        """Give a place to the next item and return this item; None if no item may have one."""
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
        """Free the place of an item of this client.  Called when the item has run."""
        self._free += 1
        self._working[client] -= 1
        if not self._working[client]:
            del self._working[client]

    def _forget_if_empty(self, client: str) -> None:
        if not self._waiting[client]:
            del self._waiting[client]
