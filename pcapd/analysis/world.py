"""What is known of a capture besides its conversations: its places, their clocks, what they lost."""

from __future__ import annotations

from typing import Dict, Final, List, Optional, Sequence, Set, Tuple

from pcapd.merge.clocks import Clock, Pair, align

__all__ = ["Place", "World"]

#: microseconds around a loss of the capture in which nothing is blamed on the network: packets
#: are lost from the middle of a burst, and the counters say only between which packets.
_LOSS_MARGIN_US: Final = 20_000
#: Losses of a place that are kept; of more, the last one grows.
_LOSSES_MAX: Final = 1000
#: Ends that are remembered of a place.
_SHARED_MAX: Final = 10_000


class Place:
    """Where packets were captured.

    Attributes:
        number: Of the place.
        name: As shown with every packet.
        instance: The instance of ours whose interface it is; None where nobody says.
        device: Its interface.
        file: Index of the file that has its packets.
        addresses: Of the interface, packed.
        packets, first_us, last_us: What it saw, and until when it looked.
        until_us: What the file says about that; 0 when it says nothing.
        dropped: Packets that it lost; None when nobody says.
        losses: When: from, to, how many.
        deduped: It is all interfaces of a file in which each packet is once only.
        known_offset: Its clock's offset and error in microseconds, where the file says them.
        clock: Compared with the first place's, by the packets; None when nothing is known.
    """

    def __init__(self, number: int, name: str, file: int, addresses: Tuple[bytes, ...]) -> None:
        self.number, self.name, self.file, self.addresses = number, name, file, addresses
        instance, colon, device = name.rpartition(":")
        self.instance: Optional[str] = instance if colon else None
        self.device = device
        self.packets = self.first_us = self.last_us = self.until_us = 0
        self.dropped: Optional[int] = None
        self.deduped = False
        self.losses: List[Tuple[int, int, int]] = []
        self.known_offset: Optional[Tuple[int, Optional[int]]] = None
        self.clock: Optional[Clock] = None
        self._last_loss_us = 0
        self._dropped: Dict[int, int] = {}

    def joined(self, addresses: Tuple[bytes, ...]) -> None:
        """Another interface belongs to it, so that it is nobody's in particular."""
        self.name, self.instance, self.device = "all places", None, ""
        self.addresses += addresses

    def counted(self, interface: int, dropped: int) -> None:
        """One of its interfaces lost this many packets until now."""
        self._dropped[interface] = dropped
        self.dropped = sum(self._dropped.values())

    def lost(self, us: int, count: int) -> None:
        """It lost packets before a packet of this time."""
        begin = self._last_loss_us or us - 1_000_000
        if len(self.losses) < _LOSSES_MAX:
            self.losses.append((max(begin, us - 1_000_000), us, count))
        else:
            first, _, before = self.losses[-1]
            self.losses[-1] = (first, us, before + count)
        self._last_loss_us = us

    @property
    def lost_in_all(self) -> int:
        """Packets that it is known to have lost."""
        return max(self.dropped or 0, sum(count for _, _, count in self.losses))


class World:
    """All places.

    Attributes:
        places: By number.
        shared: For each place, the ends (client's and server's address) of conversations that
            other places saw too.
        limits: What could not be looked at, in words.
    """

    def __init__(self) -> None:
        self.places: List[Place] = []
        self.limits: List[str] = []
        self.shared: Dict[int, Set[Tuple[bytes, bytes]]] = {}

    def compare(self, pairs: Sequence[Pair]) -> None:
        """Compare the clocks."""
        for place, clock in zip(self.places, align(len(self.places), pairs)):
            place.clock = clock

    def share(self, places: Sequence[int], ends: Tuple[bytes, bytes]) -> None:
        """Several places saw a conversation of two ends."""
        for place in places:
            known = self.shared.setdefault(place, set())
            if len(known) < _SHARED_MAX:
                known.add(ends)

    def aligned(self, place: int, us: int) -> int:
        """A time of a place, by the clock of the first one."""
        clock = self.places[place].clock
        return clock.corrected(us) if clock is not None else us - self._told(place)

    def _told(self, place: int) -> int:
        offset = self.places[place].known_offset
        return offset[0] if offset is not None else 0

    def lost_at(self, place: int, us: int, until: int) -> bool:
        """Whether a place lost packets of its own between two times (by the first clock)."""
        own = self.places[place]
        if own.dropped and not own.losses:
            return True  # nobody says when
        return any(
            self.aligned(place, begin) - _LOSS_MARGIN_US <= until
            and us <= self.aligned(place, end) + _LOSS_MARGIN_US
            for begin, end, _ in own.losses
        )

    def watched(self, place: int, us: int, margin: int) -> bool:
        """Whether a place was capturing at a time (by the first clock), and some time around it."""
        own = self.places[place]
        return bool(own.packets) and (
            self.aligned(place, own.first_us) + margin <= us <= self.aligned(place, own.last_us) - margin
        )

    @property
    def reference(self) -> str:
        """The place with whose clock the others are compared."""
        return next((place.name for place in self.places if place.clock is not None), "")

    def names(self, places: Sequence[int]) -> List[str]:
        """Of places."""
        return [self.places[place].name for place in places]
