"""Following an app: instances that restart, move or appear while it is captured.

Cloud Controller does not report changes, so it is polled at a bounded rate, with the api's own
client or with the caller's token (`pcapd.api.capture.overseeing`).  Containers are compared, not
instances: an instance that restarts keeps its index and gets a new container.  Targets are only
added here; agents notice when a container ends.

Every gap is reported: when an instance is captured again, a notice states from when to
when it was not.  If the app is deleted, or the token is no longer accepted, following ends with
a notice; running captures continue.

A capture that nobody watches, a recording, may last for days: a container is then attempted more
often, because its agent may be away for a while, but with longer and longer pauses.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.api.resolvers.base import Resolved, Target
from pcapd.errors import LimitReached, RequestError, ResolverUnavailable
from pcapd.limits import (
    FOLLOW_ATTEMPTS,
    FOLLOW_INTERVAL,
    FOLLOW_INTERVAL_MAX,
    FOLLOW_JITTER,
    REDIAL_MAX,
    REDIALS_MAX,
)
from pcapd.net.clock import cancel, now_us, rfc3339
from pcapd.wire import NoticeType

__all__ = ["Followed", "Following"]

#: Identifies a container: the cell, and the container's handle or address.  An old Cloud
#: Controller reports neither; then the name of the instance (process and index) is used.
Key = tuple[str, str]


@dataclass
class _Attempts:
    """How often one container was attempted.

    Attributes:
        again: When it may be attempted again, seconds of the reactor's clock.
        opened: When it was last opened.
    """

    number: int = 0
    again: float = 0.0
    opened: float = 0.0


class Followed(Protocol):
    """The part of a capture that `Following` uses."""

    targets: tuple[Target, ...]

    def add_target(self, target: Target) -> bool:
        """Add a target; return whether the api tries to capture it."""

    def settle(self) -> None:
        """Called when no more targets will be added."""

    def say(self, kind: NoticeType, message: str, origin: str = ...) -> None:
        """Send a notice to the user."""


class Following:
    """Adds targets to one capture.  A `pcapd.api.capture.sink.Watcher`.

    Args:
        reactor: For time.
        survey: Looks up the current instances and their hosts.
        capture: The capture to which targets are added.
        clock: Returns the time in microseconds since the epoch.
        patient: Whether containers whose agents do not answer are attempted for longer.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        survey: Callable[[], Deferred[Resolved]],
        capture: Followed,
        clock: Callable[[], int] = now_us,
        *,
        patient: bool = False,
    ) -> None:
        self._reactor = reactor
        self._survey = survey
        self._capture = capture
        self._clock = clock
        self._began_us = clock()
        self._interval = FOLLOW_INTERVAL
        self._held = {_key(target) for target in capture.targets}  # captured, or being connected
        self._opened: set[Key] = set()
        self._late: set[Key] = set()  # found after the start of the capture
        self._lost_us: dict[Key | str, int] = {}  # when it was lost, by container and by name
        self._attempts: dict[Key, _Attempts] = {}
        self._patient = patient
        self._said: set[tuple[str, str]] = set()
        self._asking: Deferred[None] | None = None
        self._timer: Any = None
        #: Whether more targets may be added.
        self.watching = True

    # --- Watcher -----------------------------------------------------------

    def opened(self, target: Target) -> None:
        """Called when a source of this target is open; a target may have several."""
        key = _key(target)
        if key not in self._opened:
            self._opened.add(key)
            self._attempts.setdefault(key, _Attempts()).opened = self._reactor.seconds()
            if key in self._late:
                self._say_gap(target, key)
        self._ask_later()

    def gone(self, target: Target) -> None:
        """Called when this target is no longer captured, or its capture failed."""
        key = _key(target)
        self._held.discard(key)
        self._late.add(key)
        if key in self._opened:
            self._opened.remove(key)
            self._forgive(key)
            self._lost_us[key] = self._lost_us[target.name] = self._clock()

    def _forgive(self, key: Key) -> None:
        """Begin to count anew, if the container was captured for a while."""
        attempts = self._attempts[key]
        if self._patient and self._reactor.seconds() - attempts.opened >= REDIAL_MAX:
            attempts.number, attempts.again = 0, 0.0

    def stop(self) -> None:
        """Stop following, because the capture has ended."""
        self.watching = False
        cancel(self._timer)
        if self._asking is not None:
            self._asking.cancel()

    # --- asking ------------------------------------------------------------

    def _ask_later(self) -> None:
        if self.watching and self._asking is None and (self._timer is None or not self._timer.active()):
            spread = random.uniform(1 - FOLLOW_JITTER, 1 + FOLLOW_JITTER)  # noqa: S311
            self._timer = self._reactor.callLater(self._interval * spread, self._ask)

    def _ask(self) -> None:
        # Stored before the callbacks are added: if there is already an answer, they run immediately.
        self._asking = asking = self._survey().addCallbacks(self._answered, self._refused)
        asking.addErrback(lambda failure: self.log.failure("following failed", failure))
        asking.addCallback(self._asked)

    def _asked(self, _: None) -> None:
        self._asking = None
        self._ask_later()

    def _answered(self, resolved: Resolved) -> None:
        if not self.watching:
            return
        if self._interval != FOLLOW_INTERVAL:
            self._interval = FOLLOW_INTERVAL
            self._capture.say(NoticeType.UNKNOWN, "the app can be followed again")
        now = {(notice.origin, notice.message) for notice in resolved.notices}
        for notice in resolved.notices:
            if (notice.origin, notice.message) not in self._said:
                self._capture.say(notice.type, notice.message, notice.origin)
        self._said = now
        self._forget_all_but({_key(target) for target in resolved.targets})
        for target in resolved.targets:
            self._consider(target)

    def _forget_all_but(self, present: set[Key]) -> None:
        """Forget containers that are gone: a recording sees very many of an app that crashes often."""
        for key in self._attempts.keys() - present - self._held:
            del self._attempts[key]
            self._late.discard(key)
            self._lost_us.pop(key, None)

    def _consider(self, target: Target) -> None:
        key = _key(target)
        attempts = self._attempts.setdefault(key, _Attempts())
        most = REDIALS_MAX if self._patient else FOLLOW_ATTEMPTS
        if key in self._held or attempts.number >= most or self._reactor.seconds() < attempts.again:
            return
        if self._patient:
            attempts.again = self._reactor.seconds() + min(REDIAL_MAX, 2.0 ** min(attempts.number, 16))
        attempts.number += 1
        self._late.add(key)
        self._held.add(key)
        if not self._capture.add_target(target):
            self._held.discard(key)
            attempts.number = most

    def _refused(self, failure: Failure) -> None:
        if not self.watching:
            return
        error = failure.value
        if isinstance(error, (ResolverUnavailable, LimitReached)):
            if self._interval == FOLLOW_INTERVAL:
                message = f"the app cannot be followed at the moment: {error}"
                self._capture.say(NoticeType.UNKNOWN, message)
            self._interval = min(2 * self._interval, FOLLOW_INTERVAL_MAX)
            if isinstance(error, LimitReached) and error.retry_after is not None:
                # Even with jitter, the next request must not be sent before `retry_after`.
                self._interval = max(self._interval, error.retry_after / (1 - FOLLOW_JITTER))
            return
        if not isinstance(error, RequestError):
            self.log.failure("following failed", failure)
            error = RequestError("the api failed; its log has the details")
        self.watching = False
        # From now on instances may be missing, and only this notice reports it.
        self._capture.say(
            NoticeType.INSTANCE_UNAVAILABLE,
            f"the app is not followed any more, since {rfc3339(self._clock())}: {error}; "
            "instances that start from now on are missing",
        )
        self._capture.settle()

    # --- gaps --------------------------------------------------------------

    def _say_gap(self, target: Target, key: Key) -> None:
        since, until = self._missed_since(target, key), self._clock()
        self._capture.say(
            NoticeType.INSTANCE_UNAVAILABLE,
            f"was not captured from {rfc3339(since)} to {rfc3339(until)}; now it is, on {target.host}",
            target.name,
        )

    def _missed_since(self, target: Target, key: Key) -> int:
        if key in self._lost_us:
            return self._lost_us[key]
        # A new container: missed since the end of its predecessor or since its own start, whichever
        # was earlier, but not since before the capture began.
        known = [self._lost_us.get(target.name), target.started_us]
        times = [time for time in known if time is not None]
        return max(self._began_us, min(times, default=self._began_us))


def _key(target: Target) -> Key:
    container = target.container
    if container is None:
        return target.host, target.name
    return target.host, container.handle or container.address or target.name
