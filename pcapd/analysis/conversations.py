"""Conversations, and what each place saw of them."""

from __future__ import annotations

import os
from typing import Final, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.analysis._facts import BETWEEN, HALF, KEY, SIGHTING, Between, Half, Key, Seen
from pcapd.limits import CONVERSATIONS_MAX, CONVERSATIONS_MAX_PURE

try:
    if os.environ.get("PCAPD_PURE"):
        raise ImportError("PCAPD_PURE asks for the reference")
    from pcapd.analysis._native import ConversationTable

    _followed = CONVERSATIONS_MAX
except ImportError:
    from pcapd.analysis._conversations import ConversationTable  # type: ignore[assignment]

    _followed = CONVERSATIONS_MAX_PURE

#: Number of conversations that a table follows.
FOLLOWED = _followed

__all__ = ["FOLLOWED", "Between", "Conversation", "ConversationTable", "End", "Half", "View"]

TCP, UDP = 6, 17
_SYN: Final = 2
#: Without other evidence, lower ports are those of servers: Linux uses ports from here on for clients.
_EPHEMERAL: Final = 32768


class End(NamedTuple):
    """One end of a conversation: its packed address, and its port if the protocol has ports."""

    address: bytes
    port: Optional[int]


class View(NamedTuple):
    """What one place saw of a conversation.

    Attributes:
        place: The number of the place.
        seen: Facts of both ends together.
        client, server: Facts of what each end sent.
    """

    place: int
    seen: Seen
    client: Half
    server: Half


class Way(NamedTuple):
    """What happened between two places to the packets of the client, and to those of the server."""

    first: int
    second: int
    up: Between
    down: Between


class Conversation:
    """One conversation.

    Attributes:
        key: Its key.
        client_side: The side (see `Key`) that opened it, or that seems to be the client.
        client, server: The two ends.
        views: What each place saw.
        ways: What happened between each two places.
    """

    __slots__ = ("client", "client_side", "key", "server", "views", "ways")

    def __init__(self, packed: bytes, seen: Sequence[bytes], pairs: Sequence[Tuple[int, int, bytes]]) -> None:
        fields = KEY.unpack(packed)
        self.key = key = Key(*fields)
        size = 4 if key.family == 4 else 16
        with_ports = bool(key.port0 or key.port1)
        ends = (
            End(key.address0[:size], key.port0 if with_ports else None),
            End(key.address1[:size], key.port1 if with_ports else None),
        )
        raw = [(Seen(*SIGHTING.unpack_from(one)), _half(one, 0), _half(one, 1)) for one in seen]
        side = self.client_side = _client_side(key, raw)
        self.client, self.server = ends[side], ends[1 - side]
        self.views = [
            View(own.place, own, *((first, second) if side == 0 else (second, first)))
            for own, first, second in raw
        ]
        self.ways = [
            Way(first, second, _between(both, side), _between(both, 1 - side))
            for first, second, both in pairs
        ]

    @property
    def protocol(self) -> int:
        """The IP protocol."""
        return self.key.protocol

    @property
    def places(self) -> Tuple[int, ...]:
        """Numbers of the places that saw it."""
        return tuple(view.place for view in self.views)

    @property
    def first_us(self) -> int:
        """The time of the first packet, by the clock of its place."""
        return min(half.first_us for view in self.views for half in view[2:] if half.packets)

    @property
    def last_us(self) -> int:
        """The time of the last packet, likewise."""
        return max(view.seen.last_us for view in self.views)


def _half(packed: bytes, side: int) -> Half:
    return Half._make(HALF.unpack_from(packed, SIGHTING.size + side * HALF.size))


def _between(both: bytes, side: int) -> Between:
    return Between._make(BETWEEN.unpack_from(both, side * BETWEEN.size))


def _client_side(key: Key, raw: List[Tuple[Seen, Half, Half]]) -> int:
    for _, first, second in raw:
        if first.syn_us and second.syn_us:
            return int(second.syn_us < first.syn_us)
    for _, first, second in raw:
        if first.syn_us or second.syn_us:
            return int(not first.syn_us)
    if key.protocol in (TCP, UDP) and (key.port0 < _EPHEMERAL) != (key.port1 < _EPHEMERAL):
        return int(key.port0 < _EPHEMERAL)
    begins = [
        (half.first_us, side) for one in raw for side, half in ((0, one[1]), (1, one[2])) if half.packets
    ]
    return min(begins)[1]
