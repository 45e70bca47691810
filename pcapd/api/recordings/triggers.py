"""What makes a clip by itself: the loss of an instance, and a packet that matches a second filter.

The second filter belongs to a second capture of the same targets, on sockets of its own: the agents'
kernels evaluate it, so it costs nothing while nothing matches.  Its packets are not stored.  After a
packet has matched, that capture is paused for `limits.CLIP_INTERVAL`.

::

    OPENING ──recording has begun──▶ ARMED ──packet──▶ RESTING ──interval over──▶ ARMED
    any ──end, error, closed──▶ OVER
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pcapd.api.capture.life import Capture
from pcapd.errors import BadFilter, BadRequest, CaptureFailed, RequestError
from pcapd.limits import CLIP_INTERVAL, SNAPLEN_MAX, TRIGGER_SNAPLEN
from pcapd.net.clock import cancel, now_us
from pcapd.net.reactor import Reactor
from pcapd.records import check
from pcapd.wire import End, Notice, NoticeType, Request, Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["FILTER_CAUSE", "Trigger", "lost_instance", "trigger_request"]

#: The cause of clips that the second filter makes.
FILTER_CAUSE = "filter"
_LOSSES = (NoticeType.INSTANCE_UNAVAILABLE, NoticeType.CONNECTION_ERROR)


def lost_instance(notice: Notice) -> bool:
    """Whether a notice reports that an instance, or an interface of it, is captured no longer."""
    return notice.type in _LOSSES


def trigger_request(request: Request, expression: str) -> Request:
    """The request of the second capture.

    Args:
        request: The recording's.
        expression: The second filter.

    Raises:
        BadRequest: The expression cannot be joined with the recording's filter.
    """
    depth = 0
    for letter in expression:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
    if depth or not expression.strip():
        raise BadFilter("the filter of clip_on has no balanced parentheses, or is empty")
    joined = f"({request.filter}) and ({expression})" if request.filter.strip() else expression
    try:
        return dataclasses.replace(request, filter=joined, snaplen=TRIGGER_SNAPLEN, max_bytes=None)
    except ValueError as error:
        raise BadRequest(f"clip_on: {error}") from error


class _State(Enum):
    OPENING = auto()
    ARMED = auto()
    RESTING = auto()
    OVER = auto()


class Trigger:
    """The sink of the second capture; see the module, and `pcapd.api.capture.sink.Sink`.

    Args:
        reactor: For time.
        fire: Called when a packet matches.
        over: Called with the capture when it needs to be counted no longer.

    Attributes:
        opened: Fires when the first source is open, or fails with the `RequestError` if there is none.
    """

    log = Logger()
    grace = 0.0
    unattended = True

    def __init__(self, reactor: Reactor, fire: Callable[[], None], over: Callable[[Capture], None]) -> None:
        self._reactor = reactor
        self._fire = fire
        self._release = over
        self._state = _State.OPENING
        self._capture: Capture | None = None
        self._offsets: dict[int, int] = {}  # of the agents' clocks, microseconds
        self._since_us = 0  # packets before this time were there while the capture was paused
        self._timer: Any = None
        self.opened: Deferred[None] = Deferred()

    def watch(self, capture: Capture) -> None:
        """Begin with this capture."""
        self._capture = capture
        capture.finished.addCallback(lambda _: self._release(capture))
        capture.start()

    def arm(self) -> None:
        """Make clips from now on: the recording has begun."""
        if self._state is _State.OPENING:
            self._state = _State.ARMED
            self._since_us = now_us()

    def close(self) -> None:
        """End: the recording has ended."""
        self._state = _State.OVER
        cancel(self._timer)
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.abandon("the recording that it watched has ended")

    # --- Sink --------------------------------------------------------------

    def source(self, number: int, source: Source) -> None:
        """Handle an opened source."""
        self._offsets[number] = source.clock_offset_us or 0
        if not self.opened.called:
            self.opened.callback(None)

    def packets(self, number: int, records: Bytes) -> bool:
        """Handle records: the filter matches.  They are looked at only if a clip may be made."""
        if self._state is _State.ARMED:
            latest = check(records, SNAPLEN_MAX).latest_us - self._offsets.get(number, 0)
            if latest >= self._since_us:
                self._rest()
                self._fire()
        return True

    def _rest(self) -> None:
        self._state = _State.RESTING
        if self._capture is not None:
            self._capture.pauseProducing()
            self._timer = self._reactor.callLater(CLIP_INTERVAL, self._wake)

    def _wake(self) -> None:
        if self._state is _State.RESTING and self._capture is not None:
            self._state = _State.ARMED
            self._since_us = now_us()
            self._capture.resumeProducing()

    def stats(self, number: int, stats: Stats) -> None:
        """Do nothing: its packets are not counted."""

    def notice(self, notice: Notice) -> None:
        """Do nothing: the recording's own capture has the same notices."""

    def end(self, end: End) -> None:
        """Handle the end: there is nothing left to watch, or the api ends."""
        self._over(CaptureFailed(end.message or end.reason.value))

    def error(self, error: RequestError) -> None:
        """Handle that nothing could be captured."""
        self._over(error)

    def _over(self, error: RequestError) -> None:
        before, self._state, self._capture = self._state, _State.OVER, None
        cancel(self._timer)
        if not self.opened.called:
            self.opened.errback(error)
        elif before is not _State.OVER:
            self.log.info("the filter of clip_on watches no longer: {reason}", reason=error.message)
