"""Fetches a recording into a file, however often the answer is cut.

Routers end an answer after some time (gorouter after 15 minutes), and the api may be restarted.
Then the rest is asked for: by its offset, and if that counts no longer because the ring has deleted
the beginning, by the time of the last packet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Protocol, Tuple
from urllib.parse import urlencode

from pcapd.ctl.login.fetch import CloudUnreachable
from pcapd.ctl.options import Access
from pcapd.ctl.recordings import calls
from pcapd.ctl.recordings.answers import Answer, AnswerCut, asked
from pcapd.ctl.recordings.following import Blocks, Overlap, Seen
from pcapd.ctl.recordings.moments import rfc3339
from pcapd.ctl.stream.connection import ApiUnreachable
from pcapd.errors import (
    Draining,
    LimitReached,
    PcapdError,
    ResolverUnavailable,
    TargetNotFound,
    Unauthenticated,
)
from pcapd.limits import FETCH_ATTEMPTS, FETCH_PAUSE_MAX, TAIL_INTERVAL
from pcapd.savefile.own import Survey

__all__ = ["Fetch", "Output", "Part", "Watcher"]

#: What may be different a moment later; a token is renewed for each attempt.
_PASSING = (
    AnswerCut,
    ApiUnreachable,
    CloudUnreachable,
    Draining,
    LimitReached,
    ResolverUnavailable,
    Unauthenticated,
)


class Output(Protocol):
    """The part of `pcapd.ctl.sinks.output.Output` that is used here."""

    def write(self, blocks: List[bytes]) -> None:
        """Write whole blocks."""


class Watcher(Protocol):
    """Is told how a fetch goes."""

    def moved(self, received: int, size: int) -> None:
        """So many bytes of a file of this size have arrived."""

    def cut(self, reason: str, pause: float) -> None:
        """The rest is asked for after a pause of so many seconds."""

    def gap(self, first_us: int, last_us: int) -> None:
        """Packets between these times may have been deleted."""


@dataclass(frozen=True)
class Part:
    """What is wanted of a recording.

    Attributes:
        from_us: Time of the first packet, microseconds since the epoch; None for no limit.
        to_us: Time of the last packet.
        clip: Number of a clip, instead of these.
    """

    from_us: Optional[int] = None
    to_us: Optional[int] = None
    clip: Optional[int] = None

    def query(self, from_us: Optional[int]) -> str:
        """The query of the URL, with another beginning."""
        values: Dict[str, str] = {}
        if from_us is not None:
            values["from"] = rfc3339(from_us)
        if self.to_us is not None:
            values["to"] = rfc3339(self.to_us)
        if self.clip is not None:
            values["clip"] = str(self.clip)
        return f"?{urlencode(values)}" if values else ""


@dataclass
class _Place:
    """Where an answer was cut.

    Attributes:
        from_us: The beginning that was asked for.
        tag: The entity tag; empty before the first answer.
        blocks: Divides the answer, and knows the offset.
        overlap: Leaves out what an earlier answer had; None for the first one.
    """

    from_us: Optional[int]
    tag: str = ""
    blocks: Blocks = field(default_factory=Blocks)
    overlap: Optional[Overlap] = None


class Fetch:
    """See the module.

    Args:
        access: How to reach the api now, with a token that is valid for a while.
        id: The recording.
        part: What is wanted of it.
        output: Where the packets go.
        watcher: Is told how it goes.
        pause: Waits for some seconds.

    Attributes:
        seen: What has been received.
        gaps: Times between which packets may have been deleted.
        size: Bytes that were written.
    """

    def __init__(  # noqa: PLR0917
        self,
        access: Callable[[], Access],
        id: str,
        part: Part,
        output: Output,
        watcher: Watcher,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._access = access
        self._id = id
        self._part = part
        self._output = output
        self._watcher = watcher
        self._pause = pause
        self._place = _Place(part.from_us)
        self._begun = False
        self._before: Optional[int] = None  # packets of the recording before the first that was fetched
        self.seen = Seen()
        self.gaps: List[Tuple[int, int]] = []
        self.size = 0

    def run(self, *, tail: bool = False) -> None:
        """Fetch what there is.

        Args:
            tail: Go on until the recording has ended.

        Raises:
            PcapdError: It failed; the output ends with a whole block.
        """
        self._before = self._deleted() if self._part == Part() else None
        if tail:
            self._follow()
        else:
            self._all(needed=True)
        self._settle()

    def _follow(self) -> None:
        """Fetch what there is until the recording has ended."""
        while True:
            known = self._patiently(self._shown)
            self._begun = True
            if known.get("last_us") is not None:
                self._all(needed=False)
            if known.get("state") not in calls.RUNNING or self._beyond(known.get("last_us")):
                return
            self._await(known)

    def _await(self, known: Dict[str, Any]) -> None:
        """Wait for another segment, or the end."""
        while True:
            self._pause(TAIL_INTERVAL)
            now = self._patiently(self._shown)
            if any(now.get(name) != known.get(name) for name in ("state", "last_us", "packets", "bytes")):
                return

    def _beyond(self, last_us: object) -> bool:
        to_us = self._part.to_us
        return to_us is not None and isinstance(last_us, int) and last_us > to_us

    def _shown(self) -> Dict[str, Any]:
        return calls.show(self._access(), self._id)

    def _all(self, *, needed: bool) -> None:
        """Fetch what there is.

        Args:
            needed: Whether it is an error if there is nothing.
        """
        try:
            while not self._patiently(self._once):
                pass
        except TargetNotFound:
            if needed and not self.size:
                raise
            self._shown()  # raises if the recording was deleted
            if self._place.overlap is None:
                self._move()

    def _patiently(self, step: Callable[[], Any]) -> Any:
        """Take a step; after the first answer, try again after what may pass, unless it lasts."""
        failures, size = 0, self.size
        while True:
            try:
                return step()
            except _PASSING as error:
                failures = 1 if self.size > size else failures + 1
                size = self.size
                if not self._begun or failures >= FETCH_ATTEMPTS:
                    raise
                pause = min(FETCH_PAUSE_MAX, 2.0 ** (failures - 1))
                self._watcher.cut(error.message, pause)
                self._pause(pause)

    def _once(self) -> bool:
        """Ask once; return whether all that there is has been received.

        Raises:
            PcapdError: The answer was cut, or refused.
        """
        place = self._place
        place.blocks.restart()
        page = f"{calls.page(self._id, 'capture')}{self._part.query(place.from_us)}"
        with asked(self._access(), page, place.blocks.size, place.tag) as answer:
            if answer.start is None:
                return True
            if answer.start != place.blocks.size:
                # The offset counts no longer: the file has another beginning now.
                self._move()
                return False
            if not self.size and self._before is not None and self._before != self._deleted():
                self._before = None  # the ring moved between the two questions
            self._begun = True
            place.tag = answer.tag
            self._read(answer)
        return True

    def _move(self) -> None:
        """Go on after the last packet, whatever is left of the file before it."""
        seen = self.seen
        from_us = seen.last_us if seen.last_us is not None else self._part.from_us
        self._place = _Place(from_us, overlap=Overlap(seen) if seen.last_us is not None else None)

    def _read(self, answer: Answer) -> None:
        place = self._place
        for piece in answer.pieces():
            data = place.blocks.add(piece)
            if not data:
                continue
            overlap = place.overlap
            found: Optional[Survey] = place.blocks.survey
            if overlap is not None:
                data, found = overlap.without(data), None
                if overlap.over:
                    self._passed(overlap)
            self._output.write([data])
            self.size += len(data)
            self.seen.add(data, found)
            self._watcher.moved(place.blocks.size, answer.size)
        if answer.size != place.blocks.size:
            raise PcapdError("the recording ends within a block", "is it damaged? tell the api's operator")

    def _deleted(self) -> Optional[int]:
        """Packets that the ring has deleted; None if the api does not say."""
        deleted = self._shown().get("deleted_packets")
        return deleted if isinstance(deleted, int) else None

    def _missing(self) -> bool:
        """Whether the ring may have deleted packets that were not fetched."""
        deleted = None if self._before is None else self._deleted()
        return self._before is None or deleted is None or deleted > self._before + self.seen.packets

    def _passed(self, overlap: Overlap) -> None:
        self._place.overlap = None
        if overlap.gap is not None and self._missing():
            self._gap(*overlap.gap)

    def _settle(self) -> None:
        """Find out whether the ring has deleted what came after the last packet."""
        overlap, last_us = self._place.overlap, self.seen.last_us
        if overlap is not None and last_us is not None and not overlap.met and self._missing():
            end_us = self._shown().get("last_us")
            self._gap(last_us, max(last_us, end_us) if isinstance(end_us, int) else last_us)

    def _gap(self, first_us: int, last_us: int) -> None:
        self.gaps.append((first_us, last_us))
        self._watcher.gap(first_us, last_us)
