"""Two interfaces: the output of a capture, and the object that adds targets to it."""

from __future__ import annotations

from typing import Protocol

from pcapd.api.resolvers.base import Target
from pcapd.errors import RequestError
from pcapd.wire import End, Notice, Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["Sink", "Watcher"]


class Sink(Protocol):
    """Receives a capture; it may call `Capture.pauseProducing` at any time.

    Attributes:
        grace: Seconds after the requested duration within which the client sends STOP itself.
        unattended: Whether the capture is recorded: nobody has to be connected, and the limits of
            recordings apply.
    """

    grace: float
    unattended: bool

    def source(self, number: int, source: Source) -> None:
        """Handle a source that has been opened."""

    def packets(self, number: int, records: Bytes) -> bool:
        """Handle checked records of one source; return whether they are sent to the client."""

    def stats(self, number: int, stats: Stats) -> None:
        """Handle the counters of one source, and the time up to which it has sent all packets."""

    def notice(self, notice: Notice) -> None:
        """Handle a notice for the user."""

    def end(self, end: End) -> None:
        """Handle the end of the capture; this is the last call."""

    def error(self, error: RequestError) -> None:
        """Handle the failure of a capture in which no source was opened; this is the last call."""


class Watcher(Protocol):
    """Adds targets while a capture runs (`pcapd.api.capture.following`)."""

    @property
    def watching(self) -> bool:
        """Whether more targets may be added, so that a capture without targets continues."""

    def opened(self, target: Target) -> None:
        """Handle that a source of this target is open."""

    def gone(self, target: Target) -> None:
        """Handle that this target is no longer captured, or its capture failed."""
