"""The interfaces of a capture's output and of what adds targets to it."""

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
        grace: Seconds after the duration in which its client stops by itself.
    """

    grace: float

    def source(self, number: int, source: Source) -> None:
        """A source is open."""

    def packets(self, number: int, records: Bytes) -> bool:
        """Take checked records of one source; returns whether they are sent to the client."""

    def stats(self, number: int, stats: Stats) -> None:
        """Take the counters and watermark of one source."""

    def notice(self, notice: Notice) -> None:
        """Take a notice for the user."""

    def end(self, end: End) -> None:
        """The capture is over; nothing follows."""

    def error(self, error: RequestError) -> None:
        """Nothing ever started; nothing follows."""


class Watcher(Protocol):
    """Adds targets while a capture runs (`pcapd.api.capture.following`)."""

    @property
    def watching(self) -> bool:
        """Whether more targets may be added, so that the capture goes on without any."""

    def opened(self, target: Target) -> None:
        """A source of this target is open."""

    def gone(self, target: Target) -> None:
        """This target is no longer captured, or its capture failed."""
