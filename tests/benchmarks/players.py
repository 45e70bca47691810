"""Plays many agents in one process: real TLS, the real wire protocol, made-up packets.

``python -m tests.benchmarks.players PORT RATE SECONDS TURN CERTIFICATE KEY CA``; prints
how many packets were sent when it gets SIGTERM.  Each agent sends the packets of TURN seconds at once.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall

from pcapd import COMPATIBILITY_LEVEL
from pcapd.config.schema import ServerTLS
from pcapd.net.clock import now_us
from pcapd.net.framed import FramedProtocol
from pcapd.net.ports import TLSPort
from pcapd.net.tls import ServerContext
from pcapd.records import pack
from pcapd.wire import Callee, CaptureStart, Counters, End, EndReason, Event, Hello, Source, Stats, Stop

#: Seconds between two STATS, as of an agent.
STATS_INTERVAL = 0.1
PACKET = bytes(100)
#: Bytes that wait to be sent, from which on an agent sends no packets.
BACKLOG_MAX = 256 * 1024

reactor: Any = installed


class Player(FramedProtocol):
    """One agent."""

    sent_by_all = 0

    def __init__(self, rate: int, seconds: float, turn: float) -> None:
        super().__init__(reactor, Callee(CaptureStart), 60.0)
        self._turn = turn
        self._per_turn = round(rate * turn)
        self._turns = round(seconds / turn)
        self._stats_every = max(1, round(STATS_INTERVAL / turn))
        self._turns_since_stats = 0
        self._sent = 0
        self._ticker = LoopingCall(self._tick)

    def ready(self) -> None:
        """Greet."""
        self.transport.write(
            self._session.hello(Hello(COMPATIBILITY_LEVEL, "agent", "player", "0", now_us()))
        )

    def event(self, event: Event) -> None:
        """Capture, or stop."""
        if isinstance(event.message, CaptureStart):
            source = Source(event.message.instance, "eth0", 1, 262144, "", excludes_api=True)
            self.transport.write(self._session.source(1, source))
            self._ticker.start(self._turn)
        elif isinstance(event.message, Stop):
            self._ticker.stop()
            self.transport.write(self._session.stats(1, self._stats(final=True)))
            counters = (Counters(1, self._sent, 0, 0, self._sent),)
            self.transport.write(self._session.end(End(EndReason.STOPPED, sources=counters)))

    def lost(self, reason: Exception) -> None:
        """The api is gone."""
        if self._ticker.running:
            self._ticker.stop()

    def _tick(self) -> None:
        # A real agent does not read while the api does not, and the kernel drops the packets.
        if self._turns > 0 and self.transport.waiting < BACKLOG_MAX:
            self._turns -= 1
            count = self._per_turn
            seconds, microseconds = divmod(now_us(), 1_000_000)
            meta = b"".join(
                struct.pack("=IIII", seconds, microseconds, 100 * number, 100) for number in range(count)
            )
            for payload in pack(PACKET * count, meta, 262144, 1 << 18):
                self.transport.writeSequence(self._session.packets(1, payload))
            self._sent += count
            Player.sent_by_all += count
        self._turns_since_stats += 1
        if self._turns_since_stats >= self._stats_every:
            self._turns_since_stats = 0
            self.transport.write(self._session.stats(1, self._stats()))

    def _stats(self, *, final: bool = False) -> Stats:
        return Stats(self._sent, 0, 0, self._sent, now_us() - 25_000, final)


def main(port: int, rate: int, seconds: float, turn: float, *files: str) -> None:
    """Play until SIGTERM."""
    certificate, key, authority = (Path(name) for name in files)
    factory = Factory.forProtocol(lambda: Player(rate, seconds, turn))
    context = ServerContext(ServerTLS(certificate, key, authority))
    agents = TLSPort(port, factory, "127.0.0.1", reactor, context, lambda _: None)
    agents.strangers_limit = agents.limit  # these many agents have one port
    agents.startListening()
    reactor.run()
    print(json.dumps({"sent": Player.sent_by_all}))


main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:])
