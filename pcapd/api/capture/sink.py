"""What a capture gives: to where it goes, and to who adds targets to it."""

from __future__ import annotations

from typing import Protocol

from pcapd.api.resolvers.base import Target
from pcapd.errors import RequestError
from pcapd.wire import End, Notice, Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["Sink", "Watcher"]


class Sink(Protocol):
    """Where a capture goes; it may call `Capture.pauseProducing` at any time.

    Attributes:
        grace: Seconds in which its client stops by itself when the duration is over.
    """

    grace: float

    def source(self, number: int, source: Source) -> None:
        """A source is open."""

    def packets(self, number: int, records: Bytes) -> bool:
        """Checked records of one source; returns whether they go on their way to the client."""

    def stats(self, number: int, stats: Stats) -> None:
        """Counters and watermark of one source."""

    def notice(self, notice: Notice) -> None:
        """Something the user should know."""

    def end(self, end: End) -> None:
        """It is over; nothing follows."""

    def error(self, error: RequestError) -> None:
        """Nothing ever started; nothing follows."""


class Watcher(Protocol):
    """Who adds targets while a capture runs (`pcapd.api.capture.following`)."""

    @property
    def watching(self) -> bool:
        """Whether more targets may come: the capture is not over without any."""

    def opened(self, target: Target) -> None:
        """A source of this target is open."""

    def gone(self, target: Target) -> None:
        """It is not captured any more, or could not be."""
