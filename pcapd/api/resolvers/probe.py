"""Checks regularly whether an authority is available, for ``/health``."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.errors import RequestError
from pcapd.limits import AUTHORITY_CHECK_INTERVAL, AUTHORITY_JITTER, AUTHORITY_RETRY, AUTHORITY_TIMEOUT
from pcapd.net.clock import cancel

__all__ = ["HealthProbe"]


class HealthProbe:
    """Checks every minute, more often while the authority is unavailable; one check at a time.

    Args:
        reactor: The reactor.
        name: The name of the authority, for messages.
        consequence: What does not work without the authority.
        look: Does one check; fails with a `RequestError` if the authority is not available.

    Attributes:
        trouble: Why the authority is not available; empty if it is.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        name: str,
        consequence: str,
        look: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._consequence = consequence
        self._look = look
        self.trouble = f"{name} has not answered yet"
        self._retry = AUTHORITY_RETRY[0]
        self._looking: Deferred[None] | None = None
        self._timer: Any = None
        self._stopped = False

    def start(self) -> None:
        """Start checking."""
        looking = Deferred.fromCoroutine(self._look())
        looking.addTimeout(AUTHORITY_TIMEOUT, self._reactor)
        self._looking = looking.addBoth(self._looked)

    def stop(self) -> None:
        """Stop checking, and cancel a running check."""
        self._stopped = True
        cancel(self._timer)
        if self._looking is not None:
            self._looking.cancel()

    def _looked(self, result: Any) -> None:
        self._looking = None
        if self._stopped:
            return
        if isinstance(result, Failure):
            self._is_away(result)
            delay = self._retry
            self._retry = min(2 * self._retry, AUTHORITY_RETRY[1])
        else:
            self.trouble = ""
            delay, self._retry = AUTHORITY_CHECK_INTERVAL, AUTHORITY_RETRY[0]
        # Jitter, so that several apis do not send their requests at the same time.
        spread = random.uniform(1 - AUTHORITY_JITTER, 1 + AUTHORITY_JITTER)  # noqa: S311
        self._timer = self._reactor.callLater(delay * spread, self.start)

    def _is_away(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, RequestError):
            trouble = error.message
        else:
            trouble = f"{self._name} did not answer in time"
            if not isinstance(error, TimeoutError):
                trouble = f"checking {self._name} failed"
                self.log.failure("checking {name} failed", failure, name=self._name)
        if trouble != self.trouble:
            self.log.warn("{trouble}; {consequence}", trouble=trouble, consequence=self._consequence)
        self.trouble = trouble
