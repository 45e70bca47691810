"""The packets of one conversation at all places, for a ladder diagram."""

from __future__ import annotations

import sys
from collections import deque
from typing import Deque, Dict, Final, Iterator, List, Sequence, Tuple

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.world import World
from pcapd.limits import EXPLAIN_WINDOW
from pcapd.merge import Matcher
from pcapd.packet.row import FLOWS, ROW_SIZE, Row, rows_of

__all__ = ["Ladder", "Step"]

#: Number of packets that are drawn, about half a page, and of those before the first sign of the finding.
_STEPS_MAX: Final = 36
_BEFORE_MAX: Final = 12
#: The diagram starts at most this time before that sign, microseconds.
_BEFORE_US: Final = 1_000_000
_ORDER: Final = sys.byteorder
_FLAGS: Final = ((2, "SYN"), (1, "FIN"), (4, "RST"), (8, "PSH"), (16, "ACK"))


class Step:
    """One packet.

    Attributes:
        up: Whether the client sent it.
        label: Its flags and sizes, as text.
        marked: Whether the finding names it.
        seen: Times by place, by the clock of the first place.
    """

    def __init__(self, row: Row, *, up: bool) -> None:
        self.up = up
        self.label = _label(row)
        self.marked = False
        self.seen: Dict[int, int] = {}

    @property
    def us(self) -> int:
        """The time of the first sighting."""
        return min(self.seen.values())


class Ladder:
    """Collects the packets of a conversation around the first sign of a finding.

    Args:
        conversation: The conversation.
        world: The places.
        sign_us: The time of the sign, by the clock of the first place.
        frames: Places and numbers of the packets that the finding names.
    """

    def __init__(
        self, conversation: Conversation, world: World, sign_us: int, frames: Sequence[Tuple[int, int]]
    ) -> None:
        self.conversation = conversation
        self._world = world
        self._sign_us = sign_us
        self._frames = set(frames)
        self._counts: Dict[int, int] = {}  # packets by file
        self._steps: Dict[int, Step] = {}
        self._early: Deque[int] = deque()  # numbers of packets before the sign
        self._forgotten = 0
        self._matcher = Matcher(1, int(EXPLAIN_WINDOW * 1e6), 10 * _STEPS_MAX)
        key = conversation.key
        ends = (key.address0, key.port0), (key.address1, key.port1)
        self._fields = {
            _fields(key.family, key.protocol, ends[side], ends[1 - side]): side == conversation.client_side
            for side in (0, 1)
        }
        self._full = False

    def add(self, rows: bytes) -> None:
        """Select packets of the conversation."""
        if self._full:
            return
        chosen, frames = [], []
        files = [place.file for place in self._world.places]
        for index, (_, place, _, fields, _) in enumerate(FLOWS.iter_unpack(rows)):
            frame = self._counts[files[place]] = self._counts.get(files[place], 0) + 1
            if fields in self._fields:
                chosen.append(rows[index * ROW_SIZE : (index + 1) * ROW_SIZE])
                frames.append(frame)
        if chosen:
            for row, frame in zip(rows_of(self._matcher.number(b"".join(chosen))), frames):
                self._take(row, (row.interface, frame) in self._frames)

    def steps(self) -> List[Step]:
        """The packets in time order."""
        return sorted(self._steps.values(), key=lambda step: step.us)

    def _take(self, row: Row, marked: bool) -> None:
        us = self._world.aligned(row.interface, row.us)
        step = self._steps.get(row.number)
        if step is None:
            if us < self._sign_us - _BEFORE_US or row.number <= self._forgotten:
                return
            if us < self._sign_us:
                self._early.append(row.number)
                if len(self._early) > _BEFORE_MAX:
                    self._forgotten = self._early.popleft()
                    del self._steps[self._forgotten]
            elif len(self._steps) >= _STEPS_MAX:
                self._full = us > self._sign_us + EXPLAIN_WINDOW * 1e6
                return
            end = self.conversation.client
            up = (row.source[: len(end.address)], row.source_port) == (end.address, end.port or 0)
            step = self._steps[row.number] = Step(row, up=up)
        step.marked |= marked
        step.seen.setdefault(row.interface, us)


def _fields(family: int, protocol: int, source: Tuple[bytes, int], destination: Tuple[bytes, int]) -> bytes:
    ports = source[1].to_bytes(2, _ORDER) + destination[1].to_bytes(2, _ORDER)
    return bytes([family, protocol]) + ports + source[0] + destination[0]


def _label(row: Row) -> str:
    return " ".join(_parts(row))


def _parts(row: Row) -> Iterator[str]:
    if row.protocol == 6:
        yield from (name for flag, name in _FLAGS if row.flags & flag)
    if row.payload:
        yield f"{row.payload} bytes"
    if row.protocol == 6 and row.flags & 16 and not row.window and not row.flags & 4:
        yield "window 0"
