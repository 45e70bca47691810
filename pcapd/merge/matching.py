"""Numbers packets: a packet that was captured at several places has the same number at each.

The number is written as the option epb_packetid (draft-ietf-opsawg-pcapng, section 4.3.1).
"""

from __future__ import annotations

from typing import Dict, Tuple

from pcapd.limits import MATCH_WINDOW
from pcapd.merge._choice import REMEMBERED, Matcher

__all__ = ["PacketIds", "new_matcher"]


def new_matcher(first: int = 1) -> Matcher:
    """A matcher that remembers the packets of the last `limits.MATCH_WINDOW` seconds.

    Args:
        first: The number of the first packet.
    """
    return Matcher(first, int(MATCH_WINDOW * 1_000_000), REMEMBERED)


class PacketIds:
    """Numbers the packets of a capture, in all its files.

    Args:
        dedupe: Whether only the first copy of each packet is written.
        first: The number of the first packet.

    Attributes:
        matcher: The argument `matcher` of `pcapd.merge.merge`.
        dedupe: The argument `dedupe`.
    """

    def __init__(self, *, dedupe: bool, first: int = 1) -> None:
        self.dedupe = dedupe
        self.matcher = new_matcher(first)
        self._places: Dict[Tuple[str, int], int] = {}

    @property
    def forgotten(self) -> int:
        """Number of packets that were forgotten too early, see `Matcher`."""
        return self.matcher.forgotten

    def place(self, stream: str, interface: int) -> int:
        """The number of an interface for the matcher; each interface of each stream has its own."""
        return self._places.setdefault((stream, interface), len(self._places))
