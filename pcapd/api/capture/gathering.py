"""Makes the agents of a large capture start together.

With `limits.GATHER_TARGETS` targets or more, agents start when all are connected or have
failed.  Otherwise the first agents would already capture for seconds while the api performs
the TLS handshakes with the last agents, and the packets of all could not be put in order.
One slow agent delays the others by at most `limits.GATHER_PATIENCE`, all slow agents
together by at most `limits.GATHER_TIME`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pcapd.api.capture.agentlink import AgentLink
from pcapd.limits import GATHER_PATIENCE, GATHER_TARGETS, GATHER_TIME
from pcapd.net.clock import cancel

__all__ = ["Gathering"]


class Gathering:
    """See the module.

    Args:
        reactor: For time.
        targets: The number of targets.
        links: Links to agents, connected or connecting; the capture changes this list.
        ask: Starts the capture of one agent.
    """

    def __init__(
        self, reactor: IReactorTime, targets: int, links: list[AgentLink], ask: Callable[[AgentLink], None]
    ) -> None:
        self._reactor = reactor
        self._links = links
        self._ask = ask
        self._ready: list[AgentLink] = []  # connected, and not yet asked to capture
        self._until = 0.0
        self._timer: Any = None
        #: Whether an agent that is ready waits for the others.
        self.waiting = targets >= GATHER_TARGETS

    def arrived(self, link: AgentLink) -> None:
        """Handle an agent that is ready to capture."""
        if not self.waiting:
            self._ask(link)
            return
        now = self._reactor.seconds()
        if not self._ready:
            self._until = now + GATHER_TIME
        self._ready.append(link)
        self.stop()
        patience = max(0.0, min(GATHER_PATIENCE, self._until - now))
        self._timer = self._reactor.callLater(patience, self._ask_all)
        self._ask_if_all_are_here()

    def left(self, link: AgentLink) -> None:
        """Handle an agent whose connection has ended: do not wait for it."""
        if self.waiting:
            if link in self._ready:
                self._ready.remove(link)
            self._ask_if_all_are_here()

    def stop(self) -> None:
        """Cancel the timer."""
        cancel(self._timer)

    def _ask_if_all_are_here(self) -> None:
        if self._ready and len(self._ready) == len(self._links):
            self._ask_all()

    def _ask_all(self) -> None:
        """Start the agents that are ready; each later one starts when it is ready."""
        self.stop()
        self.waiting = False
        ready, self._ready = self._ready, []
        for link in ready:
            self._ask(link)
