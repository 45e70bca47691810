"""Numbers packets: a packet seen at several places gets one number.

The option is epb_packetid of draft-ietf-opsawg-pcapng, section 4.3.1.
"""

from __future__ import annotations

from typing import Dict, Tuple

from pcapd.limits import MATCH_WINDOW
from pcapd.merge._choice import REMEMBERED, Matcher

__all__ = ["PacketIds", "new_matcher"]


def new_matcher(first: int = 1) -> Matcher:
    """A matcher that remembers the packets of the last seconds.

    Args:
        first: The first number.
    """
    return Matcher(first, int(MATCH_WINDOW * 1_000_000), REMEMBERED)


class PacketIds:
    """Numbers the packets of a capture, in all its files.

    Args:
        dedupe: Keep only the first sighting of each packet.
        first: The first number.

    Attributes:
        matcher: For `pcapd.merge.merge`.
        dedupe: As given.
    """

    def __init__(self, *, dedupe: bool, first: int = 1) -> None:
        self.dedupe = dedupe
        self.matcher = new_matcher(first)
        self._places: Dict[Tuple[str, int], int] = {}

    @property
    def forgotten(self) -> int:
        """Packets that were forgotten too early, see `Matcher`."""
        return self.matcher.forgotten

    def place(self, stream: str, interface: int) -> int:
        """The place of an interface; interfaces of two streams are different places."""
        return self._places.setdefault((stream, interface), len(self._places))
