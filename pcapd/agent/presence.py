"""Follows interfaces that appear and disappear while a capture runs.

If an interface is set down, its source stays open, as in libpcap 1.10, and captures again
when the interface is up.  If an interface is removed, its source is closed.  If an interface
with the same name appears within `limits.INTERFACE_RETURN` seconds, it is opened, except in
a container.  If the request names ``any``, each interface that comes up is opened, up to the
limit of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.python.failure import Failure

from pcapd.agent.opening import ANY, Opened, Opening, open_capture
from pcapd.agent.reading import Reading
from pcapd.capture.interfaces import Links
from pcapd.capture.source import CaptureSource
from pcapd.errors import RequestError
from pcapd.limits import INTERFACE_LOOK_INTERVAL, INTERFACE_RETURN, INTERFACES_MAX
from pcapd.wire import NoticeType

__all__ = ["Capturing", "Presence"]

T = TypeVar("T")


class Capturing(Protocol):
    """The methods of the session that `Presence` uses."""

    readings: list[Reading]

    def say(self, kind: NoticeType, message: str) -> None:
        """Send a notice to the user."""

    def in_thread(
        self, function: Callable[[], T], done: Callable[[T], Any], failed: Callable[[Failure], Any]
    ) -> None:
        """Run a blocking function on a thread."""

    def begin(self, sources: Sequence[CaptureSource]) -> None:
        """Start to capture from these sources; if the session is no longer capturing, close them."""


class Presence:
    """Follows the interfaces of one session, as described in the module's docstring.

    Args:
        session: The session that captures the interfaces.
        clock: Clock with the method `seconds`.
        opening: The request with which the first interfaces were opened; used for later ones.
        links: Lists the machine's interfaces; None if no more will be opened.
    """

    def __init__(self, session: Capturing, clock: Any, opening: Opening, links: Links | None) -> None:
        self._session = session
        self._clock = clock
        self._opening = opening
        self._links = links
        self._every = ANY in opening.start.interfaces
        self._count = 0
        self._down: dict[int, float] = {}  # time at which it was seen down, by the reading's number
        self._lost: dict[str, float] = {}
        self._refused: set[int] = set()  # indexes of interfaces that cannot be captured
        self._looked_at = 0.0
        self._full = False
        #: The request for the interfaces that are being opened; None if none are.
        self.opening: Opening | None = None

    @property
    def waits(self) -> bool:
        """Whether an interface is being opened or may still appear again."""
        oldest = self._clock.seconds() - INTERFACE_RETURN
        return self.opening is not None or any(at > oldest for at in self._lost.values())

    def opened(self, reading: Reading) -> None:
        """Record that the capture of an interface begins."""
        self._count += 1
        lost_at = self._lost.pop(reading.source.interface.name, None)
        if lost_at is not None:
            gap = self._clock.seconds() - lost_at
            name = reading.source.interface.name
            self._session.say(NoticeType.CAPTURE_STOPPED, f"{name} is captured again after {gap:.1f} s")

    def left(self, reading: Reading) -> str:
        """Record that an interface cannot be read any more; return the end of the notice about it."""
        self._down.pop(reading.number, None)
        index = reading.source.interface.index
        if self._links is None or self._count >= INTERFACES_MAX:
            return ""
        if index in self._links.up():  # the interface exists, but cannot be captured
            self._refused.add(index)
            return ""
        self._lost[reading.source.interface.name] = self._clock.seconds()
        return f"; the agent waits {INTERFACE_RETURN:g} s for an interface of that name"

    def look(self) -> None:
        """Check which interfaces have gone down, come up or appeared."""
        for reading in self._session.readings:
            self._look_at(reading)
        now = self._clock.seconds()
        if self._links is not None and now - self._looked_at >= INTERFACE_LOOK_INTERVAL:
            self._looked_at = now
            if (self._every or self._lost) and self.opening is None:
                self._open(self._due(self._links.up()))

    def close(self) -> None:
        """Open no more interfaces."""
        links, self._links = self._links, None
        self._lost.clear()
        if links is not None:
            links.close()
        if self.opening is not None:
            self.opening.gone = True

    def _look_at(self, reading: Reading) -> None:
        now, name = self._clock.seconds(), reading.source.interface.name
        if reading.source.taken_down:
            if self._down.setdefault(reading.number, now) == now:
                self._session.say(NoticeType.CAPTURE_STOPPED, f"{name} is down; the capture waits for it")
        elif reading.number in self._down:
            gap = now - self._down.pop(reading.number)
            self._session.say(NoticeType.CAPTURE_STOPPED, f"{name} is up again after {gap:.1f} s")

    def _due(self, up: dict[int, str]) -> dict[int, str]:
        """Those of the interfaces `up` (names by index) that are to be opened now."""
        captured = {reading.source.interface.index for reading in self._session.readings}
        new = {
            index: name
            for index, name in up.items()
            if index not in captured and index not in self._refused and (self._every or name in self._lost)
        }
        room = INTERFACES_MAX - self._count
        if len(new) > room and not self._full:
            self._full = True
            names = ", ".join(new.values())
            message = f"no more than {INTERFACES_MAX} interfaces are captured; left out: {names}"
            self._session.say(NoticeType.LIMIT_REACHED, message)
        return dict(list(new.items())[:room])

    def _open(self, due: dict[int, str]) -> None:
        if due:
            self.opening = replace(self._opening, names=tuple(due.values()), gone=False)
            self._session.in_thread(
                partial(open_capture, self.opening), partial(self._came, due), partial(self._refuse, due)
            )

    def _came(self, due: dict[int, str], opened: Opened) -> None:
        self.opening = None
        # The other interfaces of `due` could not be opened, and are not tried again.
        self._refused.update(due.keys() - {source.interface.index for source in opened.sources})
        if opened.links is not None:
            opened.links.close()
        self._session.begin(opened.sources)

    def _refuse(self, due: dict[int, str], failure: Failure) -> None:
        self.opening = None
        failure.trap(RequestError)
        if self._links is None:
            return
        self._refused.update(due)
        message = f"{', '.join(due.values())}: {failure.getErrorMessage()}"
        self._session.say(NoticeType.CAPTURE_STOPPED, message)
