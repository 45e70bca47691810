"""Whole blocks of what is fetched, and where it goes on.  Pure.

After an answer was cut, the rest is asked for by its offset, so `Blocks` gives out whole blocks
only, and counts them.  When the offset counts no longer, because the beginning of the recording has
been deleted, the rest is asked for by the time of the last packet: `Overlap` leaves out what was
received before.

The blocks are those that pcapd wrote (`pcapd.savefile`): little-endian, times in microseconds.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import List, Optional, Tuple

from pcapd.errors import PcapdError
from pcapd.limits import TIES_MAX
from pcapd.savefile.blocks import is_packet, own_blocks, own_time
from pcapd.savefile.own import Survey, survey

__all__ = ["Blocks", "NotPcapng", "Overlap", "Seen"]

_HEAD = struct.Struct("<II")
_SECTION = b"\x0a\x0d\x0d\x0a"
_NOTHING = Survey(0, 0, 0, 0, [])


class NotPcapng(PcapdError):
    """The server sends something else."""


class Blocks:
    """Divides an answer into whole blocks.

    Attributes:
        size: Bytes of the whole blocks until now.
        survey: What is in the blocks that were given out last.
    """

    def __init__(self) -> None:
        self.size = 0
        self.survey = _NOTHING
        self._rest = b""

    def restart(self) -> None:
        """Forget an unfinished block: the answer was cut, and it is sent again."""
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        """The whole blocks that are complete with these bytes.

        Raises:
            NotPcapng: The bytes are not blocks.
        """
        data = self._rest + data if self._rest else data
        if not self.size and data and data[:4] != _SECTION[: len(data)]:
            raise NotPcapng("the server does not send packets as pcapng", "check --api")
        self.survey = _surveyed(data)
        end = self.survey.end
        self._rest = data[end:]
        self.size += end
        return data[:end]


def _surveyed(data: bytes) -> Survey:
    try:
        return survey(data, TIES_MAX)
    except ValueError as error:
        raise NotPcapng("the server sends something that is not pcapng", "check --api") from error


@dataclass
class Seen:
    """The latest packets that were received.

    Attributes:
        packets: The number of all packets.
        first_us: The time of the first one, microseconds since the epoch; None without one.
        last_us: The latest time.
        ties: The packets of this time.
    """

    packets: int = 0
    first_us: Optional[int] = None
    last_us: Optional[int] = None
    ties: List[bytes] = field(default_factory=list)

    def add(self, data: bytes, found: Optional[Survey] = None) -> None:
        """Note the packets in whole blocks.

        Args:
            found: What is in them, if it is known.
        """
        found = _surveyed(data) if found is None else found
        if not found.packets:
            return
        self.packets += found.packets
        if self.first_us is None:
            self.first_us = found.first_us
        if self.last_us is None or found.latest_us > self.last_us:
            self.last_us, self.ties = found.latest_us, []
        if found.latest_us == self.last_us:
            self.ties += [_block(data, begin) for begin in found.latest]
            del self.ties[:-TIES_MAX]


def _block(data: bytes, begin: int) -> bytes:
    _, length = _HEAD.unpack_from(data, begin)
    return data[begin : begin + length]


class Overlap:
    """Leaves out the packets that were received before, from an answer that begins at the time of the last.

    Attributes:
        met: Whether packets that were received before have come again.
        over: Whether a later packet has come: nothing more is left out.
        gap: The time of the last packet before, and that of the first one now, if packets between them
            may have been deleted.
    """

    def __init__(self, seen: Seen) -> None:
        self._last_us = seen.last_us or 0
        self._ties = Counter(seen.ties)
        self.met = False
        self.over = False
        self.gap: Optional[Tuple[int, int]] = None

    def without(self, data: bytes) -> bytes:
        """Whole blocks without the packets that were received before."""
        if self.over:
            return data
        kept: List[bytes] = []
        begin = 0
        for kind, position, end in own_blocks(data):
            if not is_packet(kind):
                continue
            us = own_time(data, position)
            if us > self._last_us:
                self.over = True
                if not self.met:
                    self.gap = self._last_us, us
                break
            block = data[position:end]
            if us < self._last_us or self._ties[block]:
                self.met = True
                self._ties[block] -= us == self._last_us
                kept.append(data[begin:position])
                begin = end
        return b"".join([*kept, data[begin:]])
