"""A scenario, and the registry of all of them."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Any, Callable, Optional

from tests.hosts.scenarios.stage import (
    Stage,
    answer,
    connection,
    get,
    web,
)  # fmt: skip

LINGER = struct.pack("ii", 1, 0)
Rules = list[dict[str, Any]]


@dataclass(frozen=True)
class Play:
    """A scenario.

    Attributes:
        must: Kinds that come with both places.
        may: Kinds that may come besides, because they are true too.
        client, server: Kinds that come with only that place.
    """

    name: str
    run: Callable[[Stage, random.Random], None]
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    server: frozenset[str] = frozenset()
    faults: Callable[[random.Random], Rules] = lambda draw: []
    after: Callable[[Stage, random.Random], None] = lambda stage, draw: None


PLAYS: dict[str, Play] = {}


def play(
    must: str = "", *, may: str = "", client: Optional[str] = None, server: str = "",
    faults: Callable[[random.Random], Rules] = lambda draw: [],
    after: Callable[[Stage, random.Random], None] = lambda stage, draw: None,
) -> Callable[[Callable[[Stage, random.Random], None]], Callable[[Stage, random.Random], None]]:  # fmt: skip
    """Register one."""

    def register(function: Callable[[Stage, random.Random], None]) -> Callable[[Stage, random.Random], None]:
        alone = must if client is None else client
        sets = (frozenset(words.split()) for words in (must, may, alone, server))
        PLAYS[function.__name__] = Play(function.__name__, function, *sets, faults, after)
        return function

    return register


OK = web(lambda number, head: answer())


def some_gets(count: int, port: int = 8080) -> Callable[[], None]:
    """Requests one after the other on one connection."""

    def run() -> None:
        with connection(port) as one:
            for number in range(count):
                get(one, f"/items/{number}")

    return run
