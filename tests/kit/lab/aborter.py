"""Clients that leave captures at random: ``python -m tests.kit.lab.aborter API CA SEED COUNT TARGET...``.

The token is in PCAP_TOKEN.  Each has a connection of its own (TLS, WebSocket), asks
for a capture of all targets and leaves at some point in some way, which the seed
decides.  Prints how many left how, as JSON.
"""

from __future__ import annotations

import collections
import concurrent.futures
import json
import os
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Optional, Sequence, Type

import pcapd
from pcapd.ctl.options import Access
from pcapd.ctl.stream.connection import Connection
from pcapd.wire import Caller, End, Hello, Packets, Request, Source
from tests.kit.lab.generator import FILTER

#: Clients at once.
THREADS = 4
#: Seconds that anything may take.
PATIENCE = 20.0

#: When a client leaves: after what it has heard, and whether it says STOP before.
MOMENTS = {
    "before START": (None, False),
    "with START": (None, False),
    "when open": (Source, False),
    "in the middle": (Packets, False),
    "after STOP": (Packets, True),
    "at the end": (End, True),
}
#: How: with the WebSocket's Close, with TCP's FIN, with a reset.
WAYS = ("close", "fin", "reset")


class Aborter:
    """One client."""

    def __init__(self, access: Access, targets: Sequence[str], seed: int) -> None:
        self._access = access
        self._targets = tuple(targets)
        self._random = random.Random(seed)
        self._session = Caller()

    def run(self) -> str:
        """Capture and leave; returns when and how."""
        moment, way = self._random.choice(list(MOMENTS)), self._random.choice(WAYS)
        heard, stop = MOMENTS[moment]
        self._connection = Connection(self._access)
        self._hear(Hello)
        if moment != "before START":
            hello = Hello(pcapd.COMPATIBILITY_LEVEL, "client", "aborter", pcapd.__version__, 1)
            request = Request(self._targets, interfaces=("wire0",), filter=FILTER)
            self._connection.send(self._session.hello(hello) + self._session.start(request))
        if heard is End:
            self._hear(Source)
            self._connection.send(self._session.stop())
        if heard is not None:
            self._hear(heard)
        if heard is Packets:
            time.sleep(self._random.uniform(0.0, 0.2))
            if stop:
                self._connection.send(self._session.stop())
        self._leave(way)
        return f"{moment}, {way}"

    def _hear(self, kind: Type[object]) -> None:
        poll = select.poll()
        self._connection.watch(poll)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not self._connection.ready:
                poll.poll(100)
            messages = [
                event.message for data in self._connection.read() for event in self._session.receive(data)
            ]
            if any(isinstance(message, kind) for message in messages):
                return
            assert not self._connection.closed, f"closed before {kind.__name__}"
        raise AssertionError(f"no {kind.__name__} within {PATIENCE:g} s")

    def _leave(self, way: str) -> None:
        if way == "close":
            self._connection.close()
            return
        sock: socket.socket = self._connection._socket
        if way == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """See the module."""
    api, ca, seed, count, *targets = sys.argv[1:] if arguments is None else arguments
    access = Access(api=api, ca=Path(ca), token=os.environ["PCAP_TOKEN"])
    seeds = random.Random(int(seed))
    aborters = [Aborter(access, targets, seeds.randrange(2**32)) for _ in range(int(count))]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        left = collections.Counter(pool.map(Aborter.run, aborters))
    print(json.dumps(dict(sorted(left.items()))))


if __name__ == "__main__":
    main()
