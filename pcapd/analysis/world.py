"""The places of a capture, their clocks, and the packets that they lost."""

from __future__ import annotations

from typing import Dict, Final, List, Optional, Sequence, Set, Tuple

from pcapd.merge.clocks import Clock, Pair, align

__all__ = ["Place", "World"]

#: microseconds around a loss of the capture in which nothing is blamed on the network: packets
#: are lost in the middle of a burst, and the counters show only between which packets.
_LOSS_MARGIN_US: Final = 20_000
#: Number of losses kept for a place; further ones extend the last.
_LOSSES_MAX: Final = 1000
#: Number of pairs of ends kept for a place.
_SHARED_MAX: Final = 10_000


class Place:
    """A place where packets were captured.

    Attributes:
        number: Its number.
        name: The name shown with every packet.
        instance: The pcapd instance of the interface; None if unknown.
        device: The interface.
        file: Index of the file with its packets.
        addresses: Packed addresses of the interface.
        packets, first_us, last_us: Number of its packets, and when it was capturing.
        until_us: End of the capture according to the file; 0 if unknown.
        dropped: Packets that it lost; None if unknown.
        losses: Start, end and number of packets of each loss.
        deduped: It stands for all interfaces of a file without duplicate packets.
        known_offset: Offset and error of its clock in microseconds, if the file contains them.
        clock: Its clock compared with the first place's, by the packets; None if unknown.
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
        """Add another interface, so that the place belongs to no single instance."""
        self.name, self.instance, self.device = "all places", None, ""
        self.addresses += addresses

    def counted(self, interface: int, dropped: int) -> None:
        """Set the number of packets that one of its interfaces has lost so far."""
        self._dropped[interface] = dropped
        self.dropped = sum(self._dropped.values())

    def lost(self, us: int, count: int) -> None:
        """Note that packets were lost before a packet of this time."""
        begin = self._last_loss_us or us - 1_000_000
        if len(self.losses) < _LOSSES_MAX:
            self.losses.append((max(begin, us - 1_000_000), us, count))
        else:
            first, _, before = self.losses[-1]
            self.losses[-1] = (first, us, before + count)
        self._last_loss_us = us

    @property
    def lost_in_all(self) -> int:
        """The known number of lost packets."""
        return max(self.dropped or 0, sum(count for _, _, count in self.losses))


class World:
    """All places.

    Attributes:
        places: By number.
        shared: For each place, the client and server addresses of conversations that other
            places saw too.
        limits: Sentences about what could not be analysed.
    """

    def __init__(self) -> None:
        self.places: List[Place] = []
        self.limits: List[str] = []
        self.shared: Dict[int, Set[Tuple[bytes, bytes]]] = {}

    def compare(self, pairs: Sequence[Pair]) -> None:
        """Compare the clocks of the places."""
        for place, clock in zip(self.places, align(len(self.places), pairs)):
            place.clock = clock

    def share(self, places: Sequence[int], ends: Tuple[bytes, bytes]) -> None:
        """Note that several places saw a conversation of two ends."""
        for place in places:
            known = self.shared.setdefault(place, set())
            if len(known) < _SHARED_MAX:
                known.add(ends)

    def aligned(self, place: int, us: int) -> int:
        """Convert a time of a place to the clock of the first place."""
        clock = self.places[place].clock
        return clock.corrected(us) if clock is not None else us - self._known_offset(place)

    def _known_offset(self, place: int) -> int:
        offset = self.places[place].known_offset
        return offset[0] if offset is not None else 0

    def lost_at(self, place: int, us: int, until: int) -> bool:
        """Whether the capture at a place lost packets between two times (by the first clock)."""
        own = self.places[place]
        if own.dropped and not own.losses:
            return True  # the time is unknown
        return any(
            self.aligned(place, begin) - _LOSS_MARGIN_US <= until
            and us <= self.aligned(place, end) + _LOSS_MARGIN_US
            for begin, end, _ in own.losses
        )

    def watched(self, place: int, us: int, margin: int) -> bool:
        """Whether a place was capturing at a time (by the first clock), with a margin around it."""
        own = self.places[place]
        return bool(own.packets) and (
            self.aligned(place, own.first_us) + margin <= us <= self.aligned(place, own.last_us) - margin
        )

    @property
    def reference(self) -> str:
        """The name of the place with the reference clock."""
        return next((place.name for place in self.places if place.clock is not None), "")

    def names(self, places: Sequence[int]) -> List[str]:
        """The names of places."""
        return [self.places[place].name for place in places]
