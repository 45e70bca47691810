"""Continues the recordings that ran when the api ended.

A database that does not answer yet, and agents that start later than the api, are awaited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pcapd.api.recordings.index import Index
from pcapd.api.recordings.redialling import pause
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.values import RUNNING
from pcapd.errors import (
    AuditUnavailable,
    Draining,
    LimitReached,
    PcapdError,
    RecordingsUnavailable,
    ResolverUnavailable,
    StateUnavailable,
)
from pcapd.limits import REDIAL_PATIENCE
from pcapd.net.clock import cancel
from pcapd.net.reactor import Reactor

__all__ = ["Resuming"]


@dataclass
class _Waiting:
    """A recording that is continued later.

    Attributes:
        identity: Its owner.
        since: When the first attempt failed, seconds of the reactor's clock.
        attempts: Number of attempts.
        timer: Of the next attempt; None while an attempt is made.
    """

    identity: str
    since: float
    attempts: int = 0
    timer: Any = None


class Resuming:
    """See the module.

    Args:
        reactor: The reactor.
        index: The index.
        resume: Continues a recording.
        finish: Notes the end of a recording: id, state, message.

    Attributes:
        ready: Whether it is known which recordings there are.
        troubled: Whether the index cannot be read.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        index: Index,
        resume: Callable[[Recording], Awaitable[None]],
        finish: Callable[[str, str, str], Awaitable[None]],
    ) -> None:
        self._reactor = reactor
        self._index = index
        self._resume = resume
        self._finish = finish
        self._waiting: dict[str, _Waiting] = {}
        self._attempts = 0
        self._timer: Any = None
        self._stopped = False
        self._asked: list[Deferred[None]] = []
        self.ready = False
        self.troubled = False

    def known(self) -> Deferred[None]:
        """Fires when the index was read, or could not be read (then `ready` is false)."""
        known: Deferred[None] = Deferred()
        if self.ready or self.troubled:
            known.callback(None)
        else:
            self._asked.append(known)
        return known

    def _tell(self) -> None:
        asked, self._asked = self._asked, []
        for one in asked:
            one.callback(None)

    def start(self, before: Callable[[], Awaitable[None]]) -> None:
        """Continue all recordings.

        Args:
            before: Called first; it fails if the index cannot be read.
        """
        self._timer = None
        Deferred.fromCoroutine(self._start(before)).addErrback(
            lambda failure: self.log.failure("recordings are not continued", failure)
        )

    async def _start(self, before: Callable[[], Awaitable[None]]) -> None:
        try:
            await before()
            found = await self._index.listed(states=RUNNING)
        except StateUnavailable as error:
            self.troubled = True
            self._tell()
            self.log.warn("the recordings are not read yet: {reason}", reason=str(error))
            if not self._stopped:
                self._timer = self._reactor.callLater(pause(self._attempts), self.start, before)
            self._attempts += 1
            return
        now = self._reactor.seconds()
        self._waiting = {one.id: _Waiting(one.identity, now) for one in found}
        self.ready, self.troubled = True, False
        self._tell()
        for one in found:
            await self._attempt(one.id)

    def stop(self) -> None:
        """Continue nothing more, because the api ends."""
        self._stopped = True
        for timer in (self._timer, *(waiting.timer for waiting in self._waiting.values())):
            cancel(timer)

    def of(self, identity: str) -> set[str]:
        """The recordings of an owner that are being continued."""
        return {id for id, waiting in self._waiting.items() if waiting.identity == identity}

    def waits(self, id: str) -> bool:
        """Whether a recording is being continued, and no agent has answered yet."""
        return id in self._waiting

    def forget(self, id: str) -> bool:
        """Do not continue a recording; return whether it waited."""
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            cancel(waiting.timer)
        return waiting is not None

    def again(self, id: str, identity: str, message: str) -> None:
        """Try again later, because no agent was reached.

        Args:
            message: Why, for the user if it is given up.
        """
        now = self._reactor.seconds()
        waiting = self._waiting.setdefault(id, _Waiting(identity, now))
        if now - waiting.since >= REDIAL_PATIENCE:
            self._give_up(id, message)
        elif not self._stopped:
            delay = pause(waiting.attempts)
            waiting.attempts += 1
            waiting.timer = self._reactor.callLater(delay, self._retry, id)

    def _retry(self, id: str) -> None:
        self._waiting[id].timer = None
        self._in_background(self._attempt(id))

    async def _attempt(self, id: str) -> None:
        waiting = self._waiting.get(id)
        if waiting is None:  # stopped or deleted meanwhile
            return
        try:
            recording = await self._index.get(id)
            if recording is None or recording.state not in RUNNING or id not in self._waiting:
                self.forget(id)
                return
            await self._resume(recording)
        except Draining:
            return
        except (
            AuditUnavailable,
            LimitReached,
            RecordingsUnavailable,
            ResolverUnavailable,
            StateUnavailable,
        ) as error:
            self.again(id, waiting.identity, error.message)
        except PcapdError as error:
            self._give_up(id, error.message)

    def _give_up(self, id: str, message: str) -> None:
        self.log.warn("recording {id} is not continued: {reason}", id=id, reason=message)
        self.forget(id)
        self._in_background(self._finish(id, "failed", message))

    def _in_background(self, work: Any) -> None:
        Deferred.fromCoroutine(work).addErrback(
            lambda failure: self.log.warn("{reason}", reason=failure.getErrorMessage())
        )
