"""The sink of a capture that is recorded: muxer → segments → store → index.

At most two segments are in memory: one that is being stored, and one that is being filled.  When the
second is full before the first is stored, the capture is paused, so that the agents' kernels drop and
count.  A store that fails is tried again, for `STORE_PATIENCE` seconds.  While there are no packets,
nothing is stored; the keeper is told up to when the recording is complete.  Where a clip waits for its
last packets, the segment ends as soon as they have arrived.

::

    RECORDING ──end──▶ ENDING ──last segment stored──▶ OVER
        └──the store fails for too long──▶ FAILED ──▶ OVER
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.api.recordings.segments import Segment, Segmenter
from pcapd.errors import MixedLinkTypes, RequestError
from pcapd.limits import (
    QUIET_INTERVAL,
    RECORDING_INTERVAL,
    SEGMENT_BYTES,
    SEGMENT_SECONDS,
    STATISTICS_INTERVAL,
    STORE_PATIENCE,
    STORE_RETRY,
)
from pcapd.merge.muxer import Muxer
from pcapd.net.clock import now_us, rfc3339
from pcapd.net.reactor import Reactor
from pcapd.wire import End, EndReason, Notice, Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["Keeper", "Recorded", "Recorder"]


class Recorded(Protocol):
    """The part of a capture that a recording uses."""

    def stop(self, reason: EndReason, message: str = "") -> None:
        """End it in good order."""

    def abandon(self, why: str) -> None:
        """End it at once."""

    def pauseProducing(self) -> None:
        """Deliver nothing more for now."""

    def resumeProducing(self) -> None:
        """Deliver again."""


class Keeper(Protocol):
    """What happens to the segments of one recording."""

    def keep(self, segment: Segment) -> Deferred[None]:
        """Store a segment.

        Fails if it was not stored; it may be called again with the same segment.
        """

    def quiet(self, up_to_us: int, dropped: int) -> None:
        """Handle that there are no packets.

        Args:
            up_to_us: Up to when it is complete, microseconds since the epoch.
            dropped: Number of packets that were lost since the recording's start.
        """

    @property
    def awaited_us(self) -> int | None:
        """The time up to which packets are to be stored soon, microseconds since the epoch, or None."""

    def complete(self, up_to_us: int) -> None:
        """Handle that all packets up to this time are stored, because they were awaited."""

    def opened(self, source: Source) -> None:
        """Handle the first source: the recording has started."""

    def noticed(self, notice: Notice) -> None:
        """Handle a notice of the capture."""

    def ended(self, state: str, message: str, *, draining: bool) -> None:
        """Handle the end; this is the last call.

        Args:
            state: ``stopped`` or ``failed``.
            draining: Whether it ended only because the api stops.
        """


class _State(Enum):
    RECORDING = auto()
    ENDING = auto()  #: the capture has ended, and the last segment is being stored
    OVER = auto()


class Recorder:
    """See the module, and `pcapd.api.capture.sink.Sink`.

    Args:
        reactor: The reactor.
        muxer: Makes the blocks.
        keeper: Stores the segments.
        dropped: Number of packets that were lost in earlier epochs.
    """

    log = Logger()
    grace = 0.0
    unattended = True

    def __init__(self, reactor: Reactor, muxer: Muxer, keeper: Keeper, dropped: int = 0) -> None:
        self._reactor = reactor
        self._muxer = muxer
        self._keeper = keeper
        self._segments = Segmenter(SEGMENT_BYTES, SEGMENT_SECONDS, lambda: muxer.closing(now_us()), now_us())
        self._dropped_before = dropped
        self._state = _State.RECORDING
        self._capture: Recorded | None = None
        self._storing: Segment | None = None
        self._trouble_at: float | None = None  # when the store failed first, since it last worked
        self._paused = False
        self._ending = "stopped", ""
        self._draining = False
        self._statistics_at = self._noted_at = reactor.seconds()
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = reactor
        #: Fires when the last segment is stored, or given up.
        self.finished: Deferred[None] = Deferred()

    def record(self, capture: Recorded) -> None:
        """Begin with this capture, which is started afterwards."""
        self._capture = capture
        self._ticker.start(RECORDING_INTERVAL, now=False)

    def cancel(self) -> None:
        """End a recording whose capture did not start; the keeper is not told."""
        self._capture = None
        if self._state is not _State.OVER:
            self._finish()

    @property
    def troubled(self) -> bool:
        """Whether the store does not work at present."""
        return self._trouble_at is not None

    # --- Sink --------------------------------------------------------------

    def source(self, number: int, source: Source) -> None:
        """Handle an opened source."""
        first = not self._muxer.accounts
        gap = self._gap(source)
        try:
            self._muxer.source(number, source, now_us())
        except MixedLinkTypes as error:  # only in classic pcap
            raise AssertionError("recordings are pcapng") from error
        self._muxer.accounts[number].noted = gap
        if first:
            self._keeper.opened(source)

    def _gap(self, source: Source) -> str:
        """What the statistics of a source that was lost and is captured again say; otherwise empty."""
        same = [
            account
            for account in self._muxer.accounts.values()
            if (account.source.instance, account.source.interface) == (source.instance, source.interface)
        ]
        if not same:
            return ""
        since = max(max(account.stats.captured_up_to_us, account.opened_us) for account in same)
        return f"it was not captured from {rfc3339(since)} to {rfc3339(now_us())}"

    def packets(self, number: int, records: Bytes) -> bool:
        """Handle checked records of one source."""
        self._muxer.packets(number, records, self._reactor.seconds())
        return True

    def stats(self, number: int, stats: Stats) -> None:
        """Handle the counters of one source."""
        self._muxer.stats(number, stats)

    def notice(self, notice: Notice) -> None:
        """Handle a notice; nobody reads it now, so it is logged."""
        self._muxer.await_instances(notice.awaited)
        self.log.info("recording: {origin}: {message}", origin=notice.origin, message=notice.message)
        self._keeper.noticed(notice)

    def end(self, end: End) -> None:
        """Store what is left, and end the recording."""
        state = "failed" if end.reason is EndReason.FAILED else "stopped"
        self._draining = end.reason is EndReason.DRAINING
        self._conclude(state, end.message or end.reason.value)

    def error(self, error: RequestError) -> None:
        """End a recording in which no source was opened."""
        self._conclude("failed", error.message)

    def _conclude(self, reason: str, message: str) -> None:
        if self._state is _State.RECORDING:
            self._state = _State.ENDING
            self._capture = None
            self._ending = reason, message
            if self._ticker.running:
                self._ticker.stop()
            if self._muxer.accounts:
                pieces = self._muxer.finish_pieces(now_us())
                self._segments.add(pieces, self._reactor.seconds(), last=True)
            self._store_next()

    # --- segments ------------------------------------------------------------

    def _tick(self) -> None:
        now = self._reactor.seconds()
        here_us = self._here_us()
        if not self._paused and (self._collect(now) or here_us):
            self._store_next()
        if not self._segments.pending and self._storing is None:
            if here_us:
                self._keeper.complete(here_us)
            if now - self._noted_at >= QUIET_INTERVAL:
                self._note_quiet(now)
        full = self._segments.pending >= SEGMENT_BYTES and self._storing is not None
        if self._capture is not None and full != self._paused:
            self._paused = full
            if full:
                self._capture.pauseProducing()
            else:
                self._capture.resumeProducing()

    def _collect(self, now: float) -> bool:
        pieces = self._muxer.take_pieces(now)
        if now - self._statistics_at >= STATISTICS_INTERVAL and self._muxer.accounts:
            self._statistics_at = now
            pieces += self._muxer.statistics_pieces(now_us())
        return self._segments.add(pieces, now)

    def _here_us(self) -> int | None:
        """The time up to which all packets have arrived, if it reaches what is awaited; otherwise None."""
        awaited_us = self._keeper.awaited_us
        if awaited_us is None or not self._muxer.accounts:
            return None
        up_to_us = self._up_to_us()
        up_to_us = now_us() if up_to_us is None else up_to_us  # sources that have ended send nothing more
        return up_to_us if up_to_us >= awaited_us else None

    def _up_to_us(self) -> int | None:
        """The time up to which the sources have sent all packets; None if all sources have ended."""
        accounts = [account for account in self._muxer.accounts.values() if not account.stats.final]
        return min((account.stats.captured_up_to_us for account in accounts), default=None)

    def _note_quiet(self, now: float) -> None:
        up_to_us = self._up_to_us()
        if up_to_us is not None:  # otherwise nobody knows
            self._noted_at = now
            if up_to_us:
                self._keeper.quiet(up_to_us, self._dropped)

    @property
    def _dropped(self) -> int:
        now = sum(sum(account.known) for account in self._muxer.accounts.values())
        return self._dropped_before + now

    def _store_next(self) -> None:
        """Store the collected segment, unless one is being stored."""
        if self._storing is not None:
            return
        # The segment ends with the statistics of all interfaces, so it needs the headers of all.
        self._collect(self._reactor.seconds())
        segment = self._segments.finish(now_us(), self._dropped)
        if segment is not None:
            self._storing = segment
            self._store(segment)
        elif self._state is _State.ENDING:
            self._over()

    def _store(self, segment: Segment) -> None:
        self._keeper.keep(segment).addCallbacks(self._stored, self._not_stored, errbackArgs=(segment,))

    def _stored(self, _: Any) -> None:
        self._storing = None
        self._trouble_at = None
        self._noted_at = self._reactor.seconds()
        if self._state is _State.ENDING or self._segments.due(self._reactor.seconds()):
            self._store_next()

    def _not_stored(self, failure: Failure, segment: Segment) -> None:
        now = self._reactor.seconds()
        if self._trouble_at is None:
            self._trouble_at = now
            self.log.warn("a segment is not stored: {reason}", reason=failure.getErrorMessage())
        if now - self._trouble_at < STORE_PATIENCE and self._state is not _State.OVER:
            self._reactor.callLater(STORE_RETRY, self._store, segment)
            return
        self._ending = "failed", f"the store failed: {failure.getErrorMessage()}"
        if self._capture is not None:
            capture, self._capture = self._capture, None
            capture.abandon("the store of recordings failed")
        self._over()

    def _over(self) -> None:
        if self._state is not _State.OVER:
            self._state = _State.OVER
            self._keeper.ended(*self._ending, draining=self._draining)
            self._finish()

    def _finish(self) -> None:
        self._state = _State.OVER
        if self._ticker.running:
            self._ticker.stop()
        self.finished.callback(None)
