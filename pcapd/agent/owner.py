"""The interface of the agent for its sessions."""

from __future__ import annotations

from typing import Protocol, TypeVar

from twisted.logger import Logger

from pcapd.agent.feedback import Feedback
from pcapd.agent.metrics import AgentMetrics
from pcapd.agent.threads import Threads
from pcapd.capture.compiling import FilterCompiler
from pcapd.config.schema import AgentConfig
from pcapd.net.reactor import Reactor
from pcapd.wire import Hello

__all__ = ["SessionOwner"]

S_contra = TypeVar("S_contra", contravariant=True)


class SessionOwner(Protocol[S_contra]):
    """The attributes and methods of the agent that a session uses."""

    log: Logger
    reactor: Reactor
    config: AgentConfig
    compiler: FilterCompiler
    feedback: Feedback
    metrics: AgentMetrics
    threads: Threads

    def hello(self) -> Hello:
        """The agent's greeting."""

    def joined(self, session: S_contra) -> None:
        """Add a session with an authenticated api."""

    def left(self, session: S_contra) -> None:
        """Remove a session whose connection is closed."""

    def released(self, session: S_contra) -> None:
        """Stop counting a capture.  Called when none of its sources is open or being opened."""

    def left_without_start(self, peer: str, reason: str) -> None:
        """Log that a peer disconnected without a START."""

    def admit(self, session: S_contra) -> None:
        """Count a new capture, or raise `LimitReached`."""

    def namespace(self, name: str | None) -> str | None:
        """The path of a network namespace that may be captured, or raise `TargetNotFound`."""
