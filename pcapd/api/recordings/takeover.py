"""Looks what other processes that share the database have changed, and takes over what they record no longer.

A process looks every `limits.TERMS_INTERVAL`, if other processes may use the database.  It learns which
recordings it has lost, which ones it is asked to end, and which clips it has to make; and it takes over
recordings whose holder has given them up, or whose lease has ended.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pcapd.api.recordings.chores import Chores
from pcapd.api.recordings.clips import Clips
from pcapd.api.recordings.index import Index
from pcapd.api.recordings.resuming import Resuming
from pcapd.api.recordings.room import Room
from pcapd.api.recordings.terms import review
from pcapd.api.state.holding import Holding
from pcapd.errors import StateUnavailable
from pcapd.limits import LEASE, LEASE_INTERVAL, TERMS_INTERVAL
from pcapd.net.reactor import Reactor

__all__ = ["House", "Takeover"]

#: Seconds.  After a longer time without a beat, the leases of others may have ended though they live.
_MISSED = 1.5 * LEASE_INTERVAL


class House(Protocol):
    """What is told of the recordings.

    Attributes:
        terms: The recordings that this process holds, with their epochs.
    """

    index: Index
    terms: dict[str, int]
    room: Room
    clips: Clips
    chores: Chores
    resuming: Resuming

    def busy(self) -> Set[str]:
        """The recordings that begin at present, or that are being continued."""

    def abandon(self, id: str) -> None:
        """End a recording that was deleted."""

    def lost(self, id: str, epoch: int) -> None:
        """Handle that this process does not hold a recording any longer."""

    def end(self, id: str, why: str) -> None:
        """End a recording that this process holds."""


class Takeover:
    """See the module.

    Args:
        reactor: The reactor.
        holding: This process.
        house: The recordings.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, holding: Holding, house: House) -> None:
        self._reactor = reactor
        self._holding = holding
        self._house = house
        self._beat_at: float | None = None  # when the lease was renewed last
        self._unbroken_at = 0.0  # since when it has been renewed in time
        holding.beats.append(self._beat)
        self._caller = LoopingCall(lambda: Deferred.fromCoroutine(self._look_again()))
        self._caller.clock = reactor

    def start(self) -> None:
        """Look again and again, if other processes may use the database."""
        if not self._holding.alone and not self._caller.running:
            self._caller.start(TERMS_INTERVAL)

    def stop(self) -> None:
        """Look no more."""
        if self._caller.running:
            self._caller.stop()

    def _beat(self) -> None:
        now = self._reactor.seconds()
        if self._beat_at is None or now - self._beat_at > _MISSED:
            self._unbroken_at = now
        self._beat_at = now

    @property
    def _settled(self) -> bool:
        if self._holding.alone:
            return True
        now = self._reactor.seconds()
        in_time = self._beat_at is not None and now - self._beat_at <= _MISSED  # also if this process slept
        return in_time and now - self._unbroken_at >= LEASE

    async def _look_again(self) -> None:
        if self._holding.troubled:
            return
        try:
            await self._house.chores.write()
            await self.look()
        except StateUnavailable:
            pass  # the holder logs that the database does not answer
        except Exception:  # noqa: BLE001 - a defect; the next look may do better
            self.log.failure("the recordings of other apis are not seen")

    async def look(self) -> None:
        """Look once.

        Raises:
            StateUnavailable: The database failed.
        """
        house = self._house
        held = dict(house.terms)
        survey = await house.index.survey()
        house.room.used = survey.bytes
        found = review(survey, self._holding.id, held, house.busy(), settled=self._settled)
        for id in found.gone:
            house.abandon(id)
        for id in found.lost:
            house.lost(id, held[id])
        await house.clips.make(found.clips)
        for id, why in found.ending.items():
            house.end(id, why)
        # Without a lease, others would take them at once.
        if self._holding.alone or self._beat_at is not None:
            house.resuming.take(found.free)
