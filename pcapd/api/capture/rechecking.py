"""Checks again, while a capture runs, whether its user still has the role that it needs.

A lost role ends the capture.  An authority that does not answer is not a lost role: it is asked again
sooner, and after `limits.RECHECK_PATIENCE` seconds without an answer the capture ends too, because then
nobody knows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.errors import LimitReached, RequestError, ResolverUnavailable
from pcapd.limits import FOLLOW_JITTER, RECHECK_INTERVAL, RECHECK_PATIENCE, RECHECK_RETRY
from pcapd.net.clock import cancel, now_us, rfc3339
from pcapd.wire import EndReason

__all__ = ["Rechecking"]


class Checked(Protocol):
    """The part of a capture that `Rechecking` uses."""

    def stop(self, reason: EndReason, message: str = "") -> None:
        """End it in good order."""


class Rechecking:
    """See the module.

    Args:
        reactor: For time.
        check: Asks; fails with a `RequestError` if the user may not capture this, or nobody knows.
        capture: The capture.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, check: Callable[[], Deferred[None]], capture: Checked) -> None:
        self._reactor = reactor
        self._check = check
        self._capture = capture
        self._known_at = reactor.seconds()  # when the last answer came
        self._known_us = now_us()
        self._asking: Deferred[None] | None = None
        self._stopped = False
        self._timer: Any = None
        self._ask_in(RECHECK_INTERVAL)

    def stop(self) -> None:
        """Check no more, because the capture has ended."""
        self._stopped = True
        cancel(self._timer)
        if self._asking is not None:
            self._asking.cancel()

    def _ask_in(self, seconds: float) -> None:
        spread = random.uniform(1 - FOLLOW_JITTER, 1 + FOLLOW_JITTER)  # noqa: S311
        self._timer = self._reactor.callLater(seconds * spread, self._ask)

    def _ask(self) -> None:
        # Stored before the callbacks are added: if there is already an answer, they run immediately.
        self._asking = asking = self._check()
        asking.addCallbacks(self._may, self._may_not)

    def _may(self, _: None) -> None:
        self._asking = None
        if not self._stopped:
            self._known_at, self._known_us = self._reactor.seconds(), now_us()
            self._ask_in(RECHECK_INTERVAL)

    def _may_not(self, failure: Failure) -> None:
        self._asking = None
        if self._stopped:
            return
        error = failure.value
        if not isinstance(error, RequestError):
            self.log.failure("checking a user's role failed", failure)
            error = ResolverUnavailable("the api failed; its log has the details")
        if not isinstance(error, (ResolverUnavailable, LimitReached)):
            self._end(f"you may not capture this any longer: {error.message}")
        elif self._reactor.seconds() - self._known_at >= RECHECK_PATIENCE:
            since = rfc3339(self._known_us)
            self._end(f"whether you may still capture this is not known since {since}: {error.message}")
        else:
            self._ask_in(RECHECK_RETRY)

    def _end(self, message: str) -> None:
        self._stopped = True
        self._capture.stop(EndReason.FORBIDDEN, message)
