"""The state of a conversation in `pcapd.analysis._conversations`, and checks of a packet."""

from __future__ import annotations

from typing import Any, Dict, Final, List, Optional, Tuple

from pcapd.analysis._places import Sighting

__all__ = ["Conversation", "Waiting", "is_error", "is_loopback"]

_US_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF // 4
#: ICMP errors, by family; they quote the packet that caused them.
_ERRORS: Final = {4: frozenset((3, 4, 5, 11, 12)), 6: frozenset(range(1, 128))}


class Conversation:
    """One conversation: its ends, and its sightings.

    Attributes:
        unsure_us: Packets up to this time may be second sightings of packets that were forgotten early.
    """

    __slots__ = ("keys", "packed", "pairs", "protocol", "serial", "sightings", "syn_seq", "unsure_us")

    def __init__(self, serial: int, packed: bytes, keys: Tuple[bytes, bytes], protocol: int) -> None:
        self.serial, self.packed, self.keys, self.protocol = serial, packed, keys, protocol
        self.unsure_us = -_US_MAX - 1
        self.syn_seq: List[Optional[int]] = [None, None]
        self.sightings: List[Sighting] = []
        self.pairs: Dict[Tuple[int, int], Tuple[Any, Any]] = {}  # by index of sightings


class Waiting:
    """The sightings of a packet: index of the sighting, time, whether it is repeated, frame."""

    __slots__ = ("conversation", "number", "seen", "side", "us")

    def __init__(self, number: int, conversation: Conversation, side: int, us: int) -> None:
        self.number, self.conversation, self.side, self.us = number, conversation, side, us
        self.seen: List[Tuple[int, int, bool, int]] = []


def is_loopback(fields: bytes) -> bool:
    """Whether a packet is local to a machine, by the fields of its row."""
    if fields[0] == 4:
        return fields[6] == 127 and fields[22] == 127
    return fields[0] == 6 and fields[6:22] == fields[22:38] == bytes(15) + b"\x01"


def is_error(row: Tuple[Any, ...], data: bytes) -> bool:
    """Whether it is an ICMP message about another packet."""
    at = row[4] + row[17]
    return bool(row[17]) and at < len(data) and data[at] in _ERRORS.get(row[7][0], ())
