"""Continues recordings that nobody records: those that ran when the api ended, and those of other apis.

A database that does not answer yet, and agents that start later than the api, are awaited.  While they are,
this process holds the recording, so that two apis do not take it from each other.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pcapd.api.recordings.clips import Clips
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.redialling import pause
from pcapd.api.recordings.tables import Recording
from pcapd.api.recordings.terms import Seen
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
        epoch: Of the term that this process holds, or of the one before it.
        since: When the first attempt failed, seconds of the reactor's clock.
        attempts: Number of attempts.
        timer: Of the next attempt; None while an attempt is made.
        ending: Why it is ended instead; empty if it is not.
    """

    epoch: int
    since: float
    attempts: int = 0
    timer: Any = None
    ending: str = ""


class House(Protocol):
    """The recordings.

    Attributes:
        terms: The recordings that this process holds, with their epochs.
    """

    terms: dict[str, int]
    clips: Clips

    def holds(self, recording: Recording) -> bool:
        """Whether this process holds a recording."""

    def taken(self, recording: Recording) -> None:
        """Handle that this process has begun a term of a recording."""

    async def resume(self, recording: Recording) -> None:
        """Continue a recording in a term of this process."""

    async def finish(self, id: str, state: str, message: str) -> None:
        """Note the end of a recording."""


class Resuming:
    """See the module.

    Args:
        reactor: The reactor.
        index: The index.
        accepting: Raises `Draining` when nothing new is begun.
        house: The recordings.

    Attributes:
        ready: Whether it is known which recordings there are.
        troubled: Whether the index cannot be read.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, index: Index, accepting: Callable[[], None], house: House) -> None:
        self._reactor = reactor
        self._index = index
        self._accepting = accepting
        self._house = house
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

    def start(self, look: Callable[[], Awaitable[None]]) -> None:
        """Look at the index, until it can be read.

        Args:
            look: Looks, and calls `take`; it fails if the index cannot be read.
        """
        self._timer = None
        Deferred.fromCoroutine(self._start(look)).addErrback(
            lambda failure: self.log.failure("recordings are not continued", failure)
        )

    async def _start(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except StateUnavailable as error:
            self.troubled = True
            self._tell()
            self.log.warn("the recordings are not read yet: {reason}", reason=str(error))
            if not self._stopped:
                self._timer = self._reactor.callLater(pause(self._attempts), self.start, look)
            self._attempts += 1
            return
        self.ready, self.troubled = True, False
        self._tell()

    def take(self, free: Sequence[Seen]) -> None:
        """Continue recordings that nobody records, unless this api drains."""
        try:
            self._accepting()
        except Draining:
            return
        now = self._reactor.seconds()
        for one in free:
            self._waiting[one.id] = _Waiting(one.term.epoch, now)
        # In another order than other apis, which do the same, so that each gets some.
        chosen = random.sample([one.id for one in free], len(free))
        self._in_background(self._attempt_all(chosen))

    async def _attempt_all(self, ids: Sequence[str]) -> None:
        for id in ids:
            await self._attempt(id)

    def stop(self) -> None:
        """Continue nothing more, because the api ends."""
        self._stopped = True
        for timer in (self._timer, *(waiting.timer for waiting in self._waiting.values())):
            cancel(timer)

    def waiting(self) -> set[str]:
        """The recordings that are being continued."""
        return set(self._waiting)

    def waits(self, id: str) -> bool:
        """Whether a recording is being continued, and no agent has answered yet."""
        return id in self._waiting

    def forget(self, id: str) -> bool:
        """Do not continue a recording; return whether it waited."""
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            cancel(waiting.timer)
        return waiting is not None

    def end(self, id: str, why: str) -> bool:
        """End a recording that is being continued; return whether it was.

        Args:
            why: The message.
        """
        waiting = self._waiting.get(id)
        if waiting is None:
            return False
        if id in self._house.terms:
            self.forget(id)
            self._in_background(self._house.finish(id, "stopped", why))
        else:
            waiting.ending = why  # as soon as this process holds it
        return True

    def again(self, id: str, epoch: int, message: str) -> None:
        """Try again later, because no agent was reached.

        Args:
            epoch: Of the present term, in which nothing was stored.
            message: Why, for the user if it is given up.
        """
        now = self._reactor.seconds()
        waiting = self._waiting.setdefault(id, _Waiting(epoch, now))
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
            self._accepting()
            recording = await self._hold(id, waiting)
            if recording is not None:
                await self._go_on(recording, waiting)
            else:
                self.forget(id)
        except Draining:
            return
        except (
            AuditUnavailable,
            LimitReached,
            RecordingsUnavailable,
            ResolverUnavailable,
            StateUnavailable,
        ) as error:
            self.again(id, waiting.epoch, error.message)
        except PcapdError as error:
            self._give_up(id, error.message)

    async def _go_on(self, recording: Recording, waiting: _Waiting) -> None:
        id = recording.id
        await self._house.clips.adopt(recording)
        if recording.state not in RUNNING or id not in self._waiting:
            self.forget(id)
            self._house.terms.pop(id, None)
        elif waiting.ending or recording.ending:
            self.forget(id)
            await self._house.finish(id, "stopped", waiting.ending or recording.ending)
        else:
            await self._house.resume(recording)

    async def _hold(self, id: str, waiting: _Waiting) -> Recording | None:
        """The recording, if this process holds it; if nobody does, this process begins a term."""
        if self._house.terms.get(id) == waiting.epoch:
            held = await self._index.get(id)
            if held is None or not self._house.holds(held) or held.epoch != waiting.epoch:
                self._house.terms.pop(id, None)
                return None
            return held
        recording = await self._index.claim(id, waiting.epoch)
        if recording is not None:
            waiting.epoch = self._house.terms[id] = recording.epoch
            self._house.taken(recording)
        return recording

    def _give_up(self, id: str, message: str) -> None:
        self.log.warn("recording {id} is not continued: {reason}", id=id, reason=message)
        self.forget(id)
        self._in_background(self._house.finish(id, "failed", message))

    def _in_background(self, work: Any) -> None:
        Deferred.fromCoroutine(work).addErrback(
            lambda failure: self.log.warn("{reason}", reason=failure.getErrorMessage())
        )
