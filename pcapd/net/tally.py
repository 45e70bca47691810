"""Limits the number of log lines that a peer can cause."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pcapd.limits import SUM_INTERVAL, SUM_PEERS_MAX

__all__ = ["Tally"]

Write = Callable[[int, Mapping[str, Any]], None]

#: The key of all peers beyond `limits.SUM_PEERS_MAX`.
_OTHERS = object()


class Tally:
    """Writes the first line of a peer immediately, and then at most one line per interval.

    The interval is `limits.SUM_INTERVAL`.  The first `limits.SUM_PEERS_MAX` peers have lines of
    their own; all other peers together have one.

    Args:
        reactor: Provides timers.
        write: Called with the number of occurrences and the facts of the last one; writes a line.
    """

    def __init__(self, reactor: IReactorTime, write: Write) -> None:
        self._reactor = reactor
        self._write = write
        self._since: dict[Hashable, tuple[int, Mapping[str, Any]]] = {}
        self._timer: Any = None

    def add(self, peer: Hashable, facts: Mapping[str, Any]) -> None:
        """Count one occurrence.

        Args:
            peer: The key by which lines are summed up.
            facts: The fields of the line, except the number.
        """
        if peer not in self._since and len(self._since) >= SUM_PEERS_MAX:
            peer = _OTHERS
        if peer in self._since or peer is _OTHERS:
            count, _ = self._since.get(peer, (0, facts))
            self._since[peer] = count + 1, facts
        else:
            self._since[peer] = 0, facts
            self._write(1, facts)
        if self._timer is None:
            self._timer = self._reactor.callLater(SUM_INTERVAL, self._sum_up)

    def flush(self) -> None:
        """Write lines for the occurrences counted so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()

    def _sum_up(self) -> None:
        self._timer = None
        counted, self._since = self._since, {}
        for peer, (count, facts) in counted.items():
            if count:
                self._since[peer] = 0, facts  # more may follow
                self._write(count, facts)
        if self._since:
            self._timer = self._reactor.callLater(SUM_INTERVAL, self._sum_up)
