"""Listening ports: which connections are closed when there are too many."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, AsyncIterator, Callable

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from demo.certificates import API_NAME, Authority
from pcapd.net import ports
from pcapd.net.ports import BoundedPort, TLSPort
from pcapd.net.tls import check_allowed
from tests.kit.unit.net import LOCAL, LONGEST, Peer, client_context, connect, server_context


@pytest.fixture
def reactor() -> Any:
    return sys.modules["twisted.internet.reactor"]


class Listener:
    """A port with its `Peer`s, and plain sockets that connect to it."""

    def __init__(self, port: BoundedPort, factory: Factory) -> None:
        self.port = port
        self.peers: list[Peer] = []
        self._sockets: list[socket.socket] = []
        factory.noisy = False
        factory.buildProtocol = self._build  # type: ignore[method-assign]
        port.startListening()

    def _build(self, _: object) -> Peer:
        self.peers.append(Peer())
        return self.peers[-1]

    @property
    def address(self) -> tuple[str, int]:
        return LOCAL, self.port.getHost().port

    def connect(self, says: bytes = b"") -> socket.socket:
        """Connect, and say something."""
        connection = socket.create_connection(self.address)
        connection.settimeout(LONGEST)
        connection.sendall(says)
        self._sockets.append(connection)
        return connection

    async def close(self) -> None:
        for connection in self._sockets:
            connection.close()
        await self.port.stopListening()
        for peer in self.peers:
            peer.transport.abortConnection()
            await peer.closed


@pytest_twisted.async_yield_fixture()
async def listener(reactor: Any) -> AsyncIterator[Listener]:
    """Over plain TCP, where nobody shakes hands; with room for three, of which two strangers."""
    factory = Factory()
    port = BoundedPort(0, factory, interface=LOCAL, reactor=reactor)
    port.limit, port.strangers_limit = 3, 2
    listener = Listener(port, factory)
    yield listener
    await listener.close()


async def until(reactor: Any, condition: Callable[[], bool]) -> None:
    """Let the reactor run until something holds."""
    for _ in range(int(LONGEST / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not come to hold")


def end_of(connection: socket.socket) -> Deferred[bytes]:
    """What is read in the end: nothing, after a FIN or a reset."""

    def read() -> bytes:
        try:
            return connection.recv(1)
        except ConnectionResetError:
            return b""

    return deferToThread(read)


@pytest_twisted.ensureDeferred
async def test_the_oldest_silent_connection_goes_first(reactor: Any, listener: Listener) -> None:
    """A full port closes the connection that has been silent for longest, and accepts the new one."""
    speaking = listener.connect(b"x")
    await until(reactor, lambda: len(listener.peers) == 1)
    silent = [listener.connect() for _ in range(2)]
    await until(reactor, lambda: listener.port.open == 3)
    listener.connect(b"x")
    assert await end_of(silent[0]) == b""
    await until(reactor, lambda: [peer.events for peer in listener.peers] == [["data"]] * 2)
    assert listener.port.open == 3
    speaking.close()
    await until(reactor, lambda: listener.port.open == 2)


@pytest_twisted.ensureDeferred
async def test_the_oldest_stranger_goes_when_there_are_too_many(reactor: Any, listener: Listener) -> None:
    """Connections that sent something have a smaller bound, which known ones do not count towards."""
    for number in range(3):
        listener.connect(b"x")
        await until(reactor, lambda number=number: len(listener.peers) == number + 1)
        if number == 0:
            listener.peers[0].transport.known()
    listener.connect(b"x")
    await until(reactor, lambda: len(listener.peers) == 4)
    await listener.peers[1].closed
    await until(reactor, lambda: bool(listener.peers[3].events))
    assert [peer.events[-1] for peer in listener.peers] == ["data", "closed", "data", "data"]
    assert listener.port.open == 3


@pytest_twisted.ensureDeferred
async def test_nobody_who_is_known_goes(reactor: Any, listener: Listener) -> None:
    """Where all connections are known, others wait until one leaves or is no longer known."""
    for number in range(3):
        listener.connect(b"x")
        await until(reactor, lambda number=number: len(listener.peers) == number + 1)
        listener.peers[number].transport.known()
    listener.connect(b"x")
    await deferLater(reactor, 0.05)
    assert len(listener.peers) == 3
    listener.peers[1].transport.loseConnection()
    await until(reactor, lambda: len(listener.peers) == 4)
    listener.peers[3].transport.known()
    listener.connect(b"x")
    await deferLater(reactor, 0.05)
    assert len(listener.peers) == 4
    listener.peers[0].transport.stranger()
    await until(reactor, lambda: len(listener.peers) == 5)
    await listener.peers[0].closed
    assert listener.port.open == 3


@pytest_twisted.ensureDeferred
async def test_who_says_nothing_is_closed_in_time(
    reactor: Any, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time runs for each from its own connection on; no protocol is made for it."""
    monkeypatch.setattr(ports, "HANDSHAKE_TIMEOUT", 0.2)
    first = listener.connect()
    await deferLater(reactor, 0.1)
    began = reactor.seconds()
    second = listener.connect()
    assert await end_of(first) == b"" and reactor.seconds() - began < 0.19
    assert await end_of(second) == b"" and reactor.seconds() - began > 0.19
    assert listener.peers == [] and listener.port.open == 0


@pytest_twisted.ensureDeferred
async def test_who_resets_before_being_accepted_takes_no_place(reactor: Any, listener: Listener) -> None:
    """A connection that is reset before it is accepted takes no place."""
    for _ in range(3):
        client = socket.create_connection(listener.address)  # the kernel answers; the reactor waits for us
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    listener.connect(b"x")
    await until(reactor, lambda: len(listener.peers) == 1)
    await until(reactor, lambda: listener.port.open == 1)


@pytest.mark.parametrize("has_the_name", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_certificate_with_the_right_name_is_known(
    reactor: Any, authority: Authority, has_the_name: bool
) -> None:
    """Where names are checked, an accepted name makes a connection known; a handshake alone does not."""
    factory = Factory()
    context = server_context(authority.issue_agent("ports-agent"))
    verify = (lambda tls: check_allowed(tls, (API_NAME,))) if has_the_name else None
    listener = Listener(TLSPort(0, factory, LOCAL, reactor, context, verify), factory)
    listener.port.strangers_limit = 1
    client, _ = connect(reactor, listener.address, client_context(authority.issue_api("ports-api")))
    await client.ready
    await until(reactor, lambda: "ready" in listener.peers[0].events)
    listener.connect(b"x")
    await until(reactor, lambda: len(listener.peers) == 2)
    await deferLater(reactor, 0.05)
    assert ("closed" in listener.peers[0].events) != has_the_name
    client.transport.abortConnection()
    await client.closed
    await listener.close()
