"""What delivers a capture to pcapctl, and how long the session waits for it."""

from __future__ import annotations

import select
from typing import List, NamedTuple, Protocol

from pcapd.limits import API_SILENCE_TIMEOUT, API_START_TIMEOUT, API_STOP_LIMIT, API_STOP_TIMEOUT
from pcapd.wire.frames import Bytes

__all__ = ["API", "Peer", "Stream"]


class Peer(NamedTuple):
    """The other end, and the session's limits of time in seconds.

    Attributes:
        name: Its name, for messages.
        start: Until a first source opens.
        silence: Without a byte, while it captures.
        stop: Without packets, after a stop.
        stop_limit: In all, after a stop.
    """

    name: str
    start: float
    silence: float
    stop: float
    stop_limit: float


#: An api.
API = Peer("the api", API_START_TIMEOUT, API_SILENCE_TIMEOUT, API_STOP_TIMEOUT, API_STOP_LIMIT)


class Stream(Protocol):
    """The frames of a capture: from an api, or from ssh to its hosts.

    Attributes:
        peer: The other end.
        closed: Whether it has ended.
        heard: Whether the last `read` received anything.
    """

    peer: Peer
    closed: bool
    heard: bool

    @property
    def ready(self) -> bool:
        """Whether `read` has something to return without waiting."""
        ...

    def watch(self, poll: select.poll) -> None:
        """Register what should wake up the loop."""
        ...

    def read(self) -> List[Bytes]:
        """Return received frames, in pieces, without waiting; they are valid until the next call."""
        ...

    def send(self, frames: bytes) -> None:
        """Send whole frames."""
        ...

    def close(self) -> None:
        """End it."""
        ...
