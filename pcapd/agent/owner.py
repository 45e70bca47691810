"""What a conversation with an api asks of the agent that it belongs to."""

from __future__ import annotations

from typing import Protocol, TypeVar

from twisted.logger import Logger

from pcapd.agent.feedback import Feedback
from pcapd.agent.threads import Threads
from pcapd.capture.compiling import FilterCompiler
from pcapd.config.schema import AgentConfig
from pcapd.net.reactor import Reactor
from pcapd.wire import Hello

__all__ = ["SessionOwner"]

S_contra = TypeVar("S_contra", contravariant=True)


class SessionOwner(Protocol[S_contra]):
    """What a session asks of the agent."""

    log: Logger
    reactor: Reactor
    config: AgentConfig
    compiler: FilterCompiler
    feedback: Feedback
    threads: Threads

    def hello(self) -> Hello:
        """The agent's greeting."""

    def joined(self, session: S_contra) -> None:
        """An authenticated api is connected."""

    def left(self, session: S_contra) -> None:
        """It is gone."""

    def released(self, session: S_contra) -> None:
        """Nothing is open any more, or being opened, of what was counted in."""

    def left_without_start(self, peer: str, reason: str) -> None:
        """A peer left without a capture."""

    def admit(self, session: S_contra) -> None:
        """Count a capture in, or raise `LimitReached`."""

    def namespace(self, name: str | None) -> str | None:
        """Path of a network namespace that may be captured, or raise `TargetNotFound`."""
