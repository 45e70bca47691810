"""Dials the agents of a recording again after they were lost, so that a restarted agent is recorded again.

An instance that is captured again is a new interface of the file (`pcapd.api.recordings.recorder`).
Each attempt is in the audit log, as every target that is added to a capture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from pcapd.api.resolvers.base import Target
from pcapd.limits import REDIAL_MAX, REDIAL_MIN, REDIAL_PATIENCE, REDIALS_MAX
from pcapd.net.clock import cancel

__all__ = ["Redialling", "pause"]


class Redialled(Protocol):
    """The part of a capture that `Redialling` uses."""

    def add_target(self, target: Target) -> bool:
        """Add a target; return whether the api tries to capture it."""

    def settle(self) -> None:
        """Called when no more targets will be added."""


@dataclass
class _Place:
    """One target.

    Attributes:
        lost: When it was lost, seconds of the reactor's clock; None while it is captured.
        attempts: Attempts since it was last captured for a while.
        returns: Times that it was captured again.
        opened: When it was opened, seconds of the reactor's clock.
        timer: Of the next attempt.
    """

    lost: float | None = None
    attempts: int = 0
    returns: int = 0
    opened: float = 0.0
    timer: Any = None


def pause(attempts: int) -> float:
    """Seconds before the next attempt, after this number of them."""
    return float(min(REDIAL_MAX, REDIAL_MIN * 2 ** min(attempts, 16)))


class Redialling:
    """See the module.  A `pcapd.api.capture.sink.Watcher`.

    Args:
        reactor: For time.
        capture: The capture of the recording.
    """

    def __init__(self, reactor: IReactorTime, capture: Redialled) -> None:
        self._reactor = reactor
        self._capture = capture
        self._places: dict[str, _Place] = {}
        self._stopped = False

    @property
    def watching(self) -> bool:
        """Whether an agent will be dialled again."""
        return any(place.timer is not None for place in self._places.values())

    def opened(self, target: Target) -> None:
        """Handle that a source of this target is open; a target may have several."""
        place = self._place(target)
        place.opened = self._reactor.seconds()
        if place.lost is not None:
            place.lost = None
            place.returns += 1

    def gone(self, target: Target) -> None:
        """Handle that this target is no longer captured, or its capture failed: it is dialled again later."""
        if self._stopped:
            return
        place, now = self._place(target), self._reactor.seconds()
        if place.lost is None:
            place.lost = now
            if now - place.opened >= REDIAL_MAX:  # otherwise it comes and goes
                place.attempts = 0
        if now - place.lost < REDIAL_PATIENCE and place.returns < REDIALS_MAX:
            cancel(place.timer)
            place.timer = self._reactor.callLater(pause(place.attempts), self._again, target, place)
            place.attempts += 1

    def stop(self) -> None:
        """Dial no more, because the capture has ended."""
        self._stopped = True
        for place in self._places.values():
            cancel(place.timer)
            place.timer = None

    def _place(self, target: Target) -> _Place:
        return self._places.setdefault(target.name, _Place())

    def _again(self, target: Target, place: _Place) -> None:
        place.timer = None
        if not self._capture.add_target(target):
            self.gone(target)
            self._capture.settle()
