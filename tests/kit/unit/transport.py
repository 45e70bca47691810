"""One end of a connection in memory: with TLS between agent and api, or with a client of the api."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Optional

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


class Transport:
    """Our end of a connection between agent and api; what is written to it is kept until a test takes it.

    Attributes:
        producer: What was registered; closing waits until it is not any more.
        closed: How: ``lost``, ``aborted``, or empty while it is open.
        sent: Bytes that were taken.
        pressure: ``pause`` and ``resume``, as they were called.
        after_write: Called after each write, as a transport that may pause its producer.
    """

    disconnecting = False
    connected = True

    def __init__(
        self,
        reactor: Clock,
        protocol: Any,
        *,
        here: tuple[str, int] = ("192.0.2.1", 9494),
        there: tuple[str, int] = ("192.0.2.2", 40_000),
    ) -> None:
        self._reactor = reactor
        self.protocol = protocol
        self._here, self._there = here, there
        self._written = bytearray()
        self.producer: Any = None
        self.closed = ""
        self.sent = 0
        self.pressure: list[str] = []
        self.after_write: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            self._written += data
            self.after_write()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._written = bytes(self._written), bytearray()
        self.sent += len(taken)
        return taken

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.pressure.append("pause")

    def resumeProducing(self) -> None:
        self.pressure.append("resume")

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", *self._here)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", *self._there)

    def loseConnection(self) -> None:
        self.disconnecting = True
        if self.producer is None:
            self._end("lost", ConnectionDone())

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._end("aborted", ConnectionAborted())

    def _end(self, how: str, reason: Exception) -> None:
        if not self.closed:
            self.closed = how
            self._reactor.callLater(0, self.leave, reason)

    def leave(self, reason: Optional[Exception] = None) -> None:
        """The connection is gone."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))


class HttpTransport(StringTransport):
    """A client's connection to the api."""

    aborted = False
    #: Whether it keeps its place when the listener is full.
    keeps_its_place = False

    def __init__(self) -> None:
        super().__init__(IPv4Address("TCP", "192.0.2.1", 8080), IPv4Address("TCP", "203.0.113.7", 5555))
        #: What its socket was told, by level and option.
        self.options: dict[tuple[int, int], int] = {}

    def getHandle(self) -> Any:
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def known(self) -> None:
        self.keeps_its_place = True

    def stranger(self) -> None:
        self.keeps_its_place = False
