"""TLS straight on the socket: who gets in, and that every byte arrives."""

from __future__ import annotations

import hashlib
import random
import socket
import sys
from typing import Any, AsyncIterator, Callable, Iterator, TypeVar

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from demo.certificates import API_NAME, Authority, Credentials
from demo.configurations import free_port
from pcapd.errors import PcapdError, PeerIdentityError
from pcapd.limits import SEND_BUFFER, TCP_KEEPALIVE
from pcapd.net.tls import ClientContext
from tests.kit.unit.net import LOCAL, LONGEST, Peer, Server, client_context, connect, server_context

T = TypeVar("T")

#: RFC 6125 lets it stand for `API_NAME`.
WILDCARD = f"*.{API_NAME.partition('.')[2]}"


@pytest.fixture
def reactor() -> Any:
    """The real one, whichever pytest-twisted has installed."""
    return sys.modules["twisted.internet.reactor"]


@pytest.fixture(scope="module")
def agent(authority: Authority) -> Credentials:
    return authority.issue_agent("transport-agent")


@pytest.fixture(scope="module")
def api(authority: Authority) -> ClientContext:
    return client_context(authority.issue_api("transport-api"))


@pytest_twisted.async_yield_fixture()
async def server(reactor: Any, agent: Credentials) -> AsyncIterator[Server]:
    """An agent's listener with good certificates."""
    server = Server(reactor, server_context(agent))
    yield server
    await server.close()


def soon(reactor: Any, deferred: Deferred[T]) -> Deferred[T]:
    """The same, but it fails when it takes too long."""
    return deferred.addTimeout(LONGEST, reactor)


async def pair(reactor: Any, server: Server, api: ClientContext) -> tuple[Peer, Peer]:
    """Two ends, client and server, that have shaken hands."""
    accepted = server.accepted()
    client, _ = connect(reactor, server.address, api)
    there = await soon(reactor, accepted)
    await soon(reactor, client.ready)
    await soon(reactor, there.ready)
    return client, there


async def until(reactor: Any, condition: Callable[[], bool]) -> None:
    """Let the reactor run until something holds."""
    for _ in range(int(LONGEST / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not come to hold")


# --- who gets in -----------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_good_handshake(reactor: Any, server: Server, api: ClientContext) -> None:
    """After a good handshake both ends are ready and know each other's address."""
    client, there = await pair(reactor, server, api)
    assert client.transport.getPeer().port == server.address[1] == there.transport.getHost().port
    assert client.transport.getHost() == there.transport.getPeer()
    client.transport.loseConnection()
    assert isinstance(await soon(reactor, client.closed), ConnectionDone)
    assert isinstance(await soon(reactor, there.closed), ConnectionDone)
    assert server.port.open == 0


@pytest_twisted.ensureDeferred
async def test_a_host_that_died_is_noticed(reactor: Any, server: Server, api: ClientContext) -> None:
    """A host that died is noticed by TCP keepalive, whose interval and number both ends set."""
    for end in await pair(reactor, server, api):
        handle = end.transport.getHandle()
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert tuple(handle.getsockopt(socket.IPPROTO_TCP, option) for option in options) == TCP_KEEPALIVE


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, of the same name as ours."""
    return Authority(tmp_path_factory.mktemp("stranger"))


async def refusal(
    reactor: Any, agent: Credentials, context: Callable[[], SSL.Context], **options: Any
) -> tuple[Exception, Exception, Peer]:
    """Let a connection be refused; returns why for the client and for the server, and the client."""
    server = Server(reactor, server_context(agent, options.pop("client_cas", None)))
    try:
        accepted = server.accepted()
        client, _ = connect(reactor, server.address, context, **options)
        there = await soon(reactor, accepted)
        client_reason = await soon(reactor, client.closed)
        server_reason = await soon(reactor, there.closed)
        assert there.events[-1] == client.events[-1] == "closed" and "data" not in there.events
        assert server.port.open == 0
        return client_reason, server_reason, client
    finally:
        await server.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_server_of_another_authority(
    reactor: Any, authority: Authority, stranger: Authority, api: ClientContext
) -> None:
    """A server of another CA is refused before the client is ready, and learns that it was refused."""
    agent = stranger.issue_agent()
    mine, theirs, client = await refusal(reactor, agent, api, client_cas=authority.certificate_path)
    assert isinstance(mine, PeerIdentityError) and "certificate is not accepted" in mine.message
    assert isinstance(theirs, PeerIdentityError) and "refused our certificate" in theirs.message
    assert client.events == ["closed"]


@pytest_twisted.ensureDeferred
async def test_a_server_whose_certificate_has_expired(
    reactor: Any, authority: Authority, api: ClientContext
) -> None:
    """A server with an expired certificate is refused with the reason."""
    agent = authority.issue_expired("old-agent", dns=("pcap-agent.service.cf.internal",))
    mine, _, client = await refusal(reactor, agent, api)
    assert isinstance(mine, PeerIdentityError) and "certificate" in mine.message
    assert client.events == ["closed"]


@pytest.mark.parametrize("name", ["other.example.com", "127.0.0.2", "::1"])
@pytest_twisted.ensureDeferred
async def test_a_server_of_another_name(
    reactor: Any, agent: Credentials, api: ClientContext, name: str
) -> None:
    """A server of another name is refused with the certificate's names and the expected one."""
    mine, _, client = await refusal(reactor, agent, api, name=name)
    assert isinstance(mine, PeerIdentityError)
    assert "pcap-agent.service.cf.internal" in mine.message and name in mine.message
    assert "server_name" in mine.hint
    assert client.events == ["closed"]


@pytest_twisted.ensureDeferred
async def test_a_server_without_any_name(reactor: Any, authority: Authority, api: ClientContext) -> None:
    """A server certificate with a common name alone is refused."""
    mine, _, _ = await refusal(reactor, authority.issue("pcap-agent.service.cf.internal"), api)
    assert isinstance(mine, PeerIdentityError) and "no name at all" in mine.message


def no_certificate(authority: Authority) -> Callable[[], SSL.Context]:
    """A client that trusts us and shows nothing."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.load_verify_locations(str(authority.certificate_path))
    return lambda: context


@pytest.mark.parametrize("flaw", ["another authority", "expired", "missing"])
@pytest_twisted.ensureDeferred
async def test_a_client_with_a_bad_certificate(
    reactor: Any, authority: Authority, stranger: Authority, agent: Credentials, flaw: str
) -> None:
    """The server is never ready for it; TLS 1.3 tells the client late, as a loss with a reason."""
    contexts: dict[str, Callable[[], Callable[[], SSL.Context]]] = {
        "another authority": lambda: client_context(stranger.issue_api(), authority.certificate_path),
        "expired": lambda: client_context(authority.issue_expired("old-api", dns=(API_NAME,))),
        "missing": lambda: no_certificate(authority),
    }
    mine, theirs, client = await refusal(reactor, agent, contexts[flaw]())
    assert isinstance(mine, PeerIdentityError) and "refused our certificate" in mine.message
    assert isinstance(theirs, PcapdError) and "certificate" in theirs.message
    assert client.events == ["ready", "closed"]


@pytest_twisted.ensureDeferred
async def test_a_client_without_any_name(reactor: Any, authority: Authority, agent: Credentials) -> None:
    """A certificate without names is refused as what it is, however it is called."""
    _, theirs, _ = await refusal(reactor, agent, client_context(authority.issue(API_NAME)))
    assert isinstance(theirs, PeerIdentityError) and "no name at all" in theirs.message


@pytest.mark.parametrize("name", ["other-agent.example.com", WILDCARD])
@pytest_twisted.ensureDeferred
async def test_a_client_of_another_name(
    reactor: Any, authority: Authority, agent: Credentials, name: str
) -> None:
    """Another agent's certificate does not let one in, nor one for whatever name below a domain."""
    other = client_context(authority.issue("other", dns=(name,)))
    _, theirs, _ = await refusal(reactor, agent, other)
    assert isinstance(theirs, PeerIdentityError)
    assert repr(name) in theirs.message and "allowed_clients" in theirs.message


@pytest_twisted.ensureDeferred
async def test_a_client_of_several_names(reactor: Any, authority: Authority, server: Server) -> None:
    """One allowed name is enough, whatever its case."""
    names = (WILDCARD, "other.example.com", API_NAME.upper())
    accepted = server.accepted()
    client, _ = connect(reactor, server.address, client_context(authority.issue("several", dns=names)))
    there = await soon(reactor, accepted)
    await soon(reactor, there.ready)
    client.transport.abortConnection()


# --- every byte ------------------------------------------------------------------


@implementer(IPushProducer)
class Sender:
    """Writes random pieces while it may, then closes its production."""

    def __init__(self, reactor: Any, transport: Any, seed: int, size: int) -> None:
        self._reactor = reactor
        self._transport = transport
        self._random = random.Random(seed)
        self._left = size
        self._paused = False
        self.pauses = 0
        self.digest = hashlib.sha256()
        transport.registerProducer(self, True)
        self._write()

    def _write(self) -> None:
        while self._left and not self._paused:
            size = min(self._left, self._random.choice([1, 7, 100, 1400, 16384, 16385, 70_000, 300_000]))
            data = self._random.randbytes(size)
            self.digest.update(data)
            self._left -= size
            self._transport.write(data)
        if not self._left and self._transport.producer is self:
            self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        assert not self._paused
        self._paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        assert self._paused
        self._paused = False
        self._write()

    def stopProducing(self) -> None:
        self._paused = True


async def stutter(reactor: Any, peer: Peer, size: int) -> None:
    """Read in fits and starts until so much has come."""
    while peer.size < size:
        peer.transport.pauseProducing()
        await deferLater(reactor, 0.005)
        peer.transport.resumeProducing()
        await deferLater(reactor, 0.005)


@pytest.mark.parametrize("seed", [1, 2])
@pytest_twisted.ensureDeferred
async def test_megabytes_both_ways_arrive_intact(
    reactor: Any, server: Server, api: ClientContext, seed: int
) -> None:
    """Random pieces in both directions at once, through readers that pause, lose and mix up nothing."""
    client, there = await pair(reactor, server, api)
    size = 6 * 1024 * 1024
    up = Sender(reactor, client.transport, seed, size)
    down = Sender(reactor, there.transport, seed + 100, size)
    readers = [Deferred.fromCoroutine(stutter(reactor, peer, size)) for peer in (client, there)]
    for reader in readers:
        await soon(reactor, reader)
    assert (there.size, client.size) == (size, size)
    assert there.digest.digest() == up.digest.digest()
    assert client.digest.digest() == down.digest.digest()
    assert up.pauses and down.pauses
    client.transport.loseConnection()
    await soon(reactor, there.closed)
    await soon(reactor, client.closed)


@pytest_twisted.ensureDeferred
async def test_many_small_writes_arrive_in_order(reactor: Any, server: Server, api: ClientContext) -> None:
    """Many small writes, joined into records, arrive as the same bytes."""
    client, there = await pair(reactor, server, api)
    pieces = [number.to_bytes(4, "big") * (number % 50 + 1) for number in range(3000)]
    client.transport.writeSequence(pieces)
    await soon(reactor, there.received(sum(map(len, pieces))))
    assert there.digest.digest() == hashlib.sha256(b"".join(pieces)).digest()


@pytest_twisted.ensureDeferred
async def test_empty_writes_are_nothing(reactor: Any, server: Server, api: ClientContext) -> None:
    """Pieces without bytes, alone or among others, neither disturb the stream nor end it."""
    client, there = await pair(reactor, server, api)
    client.transport.write(b"")
    client.transport.writeSequence([b""])
    await deferLater(reactor, 0.02)
    client.transport.writeSequence([b"", b"one", b"", b"two", b""])
    await soon(reactor, there.received(6))
    client.transport.writeSequence([b"", b""])
    client.transport.loseConnection()
    assert isinstance(await soon(reactor, there.closed), ConnectionDone)
    assert there.size == 6


@implementer(IPushProducer)
class Transcript:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


@pytest_twisted.ensureDeferred
async def test_a_producer_is_paused_above_the_bound_and_resumed_below(
    reactor: Any, server: Server, api: ClientContext
) -> None:
    """Up to the bound the producer is left alone; above it is paused once, and resumed when it is read."""
    client, there = await pair(reactor, server, api)
    client.transport.pauseProducing()
    producer = Transcript()
    there.transport.registerProducer(producer, True)
    there.transport.write(bytes(SEND_BUFFER))
    assert producer.told == []
    there.transport.write(b"x")
    there.transport.write(bytes(8 * 1024 * 1024))
    await deferLater(reactor, 0.1)
    assert set(producer.told) == {"pause"}
    client.transport.resumeProducing()
    await soon(reactor, client.received(SEND_BUFFER + 1 + 8 * 1024 * 1024))
    await until(reactor, lambda: producer.told[-1] == "resume")
    assert producer.told.count("resume") == 1
    there.transport.unregisterProducer()


@pytest_twisted.ensureDeferred
async def test_a_paused_transport_delivers_nothing(reactor: Any, server: Server, api: ClientContext) -> None:
    """After pauseProducing not one byte is delivered until resumeProducing, then all of them."""
    client, there = await pair(reactor, server, api)
    there.transport.pauseProducing()
    client.transport.write(bytes(2 * 1024 * 1024))
    await deferLater(reactor, 0.1)
    assert there.size == 0
    there.transport.resumeProducing()
    await soon(reactor, there.received(2 * 1024 * 1024))


@pytest_twisted.ensureDeferred
async def test_close_sends_what_is_queued_first(reactor: Any, server: Server, api: ClientContext) -> None:
    """loseConnection right behind a large write loses none of it, and the end is a clean one."""
    client, there = await pair(reactor, server, api)
    there.transport.write(b"z" * 5_000_000)
    there.transport.loseConnection()
    there.transport.write(b"after the end")
    assert isinstance(await soon(reactor, client.closed), ConnectionDone)
    assert client.size == 5_000_000


@pytest_twisted.ensureDeferred
async def test_an_abort_is_seen_as_one(reactor: Any, server: Server, api: ClientContext) -> None:
    """The peer of an aborted connection is told of a reset, not of an orderly end."""
    client, there = await pair(reactor, server, api)
    there.transport.write(b"z" * 5_000_000)
    there.transport.abortConnection()
    there.transport.abortConnection()
    assert isinstance(await soon(reactor, there.closed), ConnectionAborted)
    reason = await soon(reactor, client.closed)
    assert isinstance(reason, PcapdError) and "reset" in reason.message


class Leaver(Peer):
    """Leaves as soon as something comes, and goes on speaking."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.abortConnection()
        self.transport.resumeProducing()
        self.transport.write(b"after the end")
        self.transport.write(bytes(1024 * 1024))


@pytest_twisted.ensureDeferred
async def test_nothing_is_delivered_or_sent_after_an_abort(
    reactor: Any, server: Server, api: ClientContext
) -> None:
    """Megabytes have come, and OpenSSL holds some of them: who has aborted is not bothered with them."""
    client, there = await pair(reactor, server, api)
    there.transport.pauseProducing()
    client.transport.write(bytes(8 * 1024 * 1024))
    await deferLater(reactor, 0.1)
    there.__class__ = Leaver
    there.transport.resumeProducing()
    assert isinstance(await soon(reactor, there.closed), ConnectionAborted)
    await soon(reactor, client.closed)
    assert there.events == ["ready", "data", "closed"] and client.size == 0


@pytest_twisted.ensureDeferred
async def test_an_end_from_both_sides_is_told_once(reactor: Any, server: Server, api: ClientContext) -> None:
    """A close by the peer that arrives while its last data makes us abort is reported once."""
    client, there = await pair(reactor, server, api)
    there.transport.pauseProducing()
    client.transport.write(b"last words")
    client.transport.loseConnection()
    await deferLater(reactor, 0.1)
    there.__class__ = Leaver
    there.transport.resumeProducing()
    await soon(reactor, there.closed)
    await soon(reactor, client.closed)
    await deferLater(reactor, 0.01)
    assert there.events == ["ready", "data", "closed"]


@pytest_twisted.ensureDeferred
async def test_who_aborts_between_reading_and_writing_sends_nothing(
    reactor: Any, server: Server, api: ClientContext
) -> None:
    """A reactor that found the socket readable and writable writes after the abort, too: nothing gets out."""
    client, there = await pair(reactor, server, api)
    there.transport.write(b"hello")
    await soon(reactor, client.received(5))
    there.transport.write(b"of nobody")
    there.transport.abortConnection()
    assert there.transport.doWrite() is None
    with pytest.raises(BlockingIOError):
        client.transport.getHandle().recv(1, socket.MSG_PEEK)
    assert isinstance(await soon(reactor, there.closed), ConnectionAborted)
    await soon(reactor, client.closed)


@pytest_twisted.ensureDeferred
async def test_the_first_error_is_the_reason(reactor: Any, server: Server, api: ClientContext) -> None:
    """The kernel tells of a reset once, and then of a broken pipe: what is told is the reset."""
    client, there = await pair(reactor, server, api)
    there.transport.pauseProducing()
    client.transport.abortConnection()
    await soon(reactor, client.closed)
    there.transport.write(bytes(64 * 1024))
    reason = there.transport.doWrite()
    assert isinstance(reason, PcapdError) and reason.message == "Connection reset by peer"


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_cut_without_goodbye(
    reactor: Any, server: Server, api: ClientContext
) -> None:
    """A TCP end without the TLS one is a failure: somebody may have cut the stream."""
    client, there = await pair(reactor, server, api)
    client.transport.getHandle().shutdown(socket.SHUT_WR)
    reason = await soon(reactor, there.closed)
    assert isinstance(reason, PcapdError) and "without TLS close_notify" in reason.message


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_data_that_comes_with_the_last_handshake_message_is_delivered(
    reactor: Any, server: Server, authority: Authority, version: int
) -> None:
    """A client that does not wait before it speaks is heard, after the handshake is announced."""
    accepted = server.accepted()
    address = server.address
    context = client_context(authority.issue_api("hasty-api"))()
    context.set_max_proto_version(version)

    def talk() -> None:
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        with socket.create_connection(address, timeout=LONGEST) as sock:
            while True:
                try:
                    connection.do_handshake()
                    break
                except SSL.WantReadError:
                    _send(connection, sock)
                    connection.bio_write(sock.recv(65536))
            connection.send(b"at once")
            _send(connection, sock)
            sock.recv(1)  # until the server has seen it and closes, or sends its tickets

    done = deferToThread(talk)
    there = await soon(reactor, accepted)
    await soon(reactor, there.received(7))
    assert there.events[:2] == ["ready", "data"]
    there.transport.loseConnection()
    await soon(reactor, done)
    await soon(reactor, there.closed)


def _send(connection: SSL.Connection, sock: socket.socket) -> None:
    try:
        sock.sendall(connection.bio_read(1_000_000))
    except SSL.WantReadError:
        return


# --- what does not come to a connection ------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_port_where_nobody_listens(reactor: Any, api: ClientContext) -> None:
    """A refused connection has the kernel's reason, and is reported exactly once."""
    client, _transport = connect(reactor, (LOCAL, free_port()), api)
    reason = await soon(reactor, client.closed)
    assert isinstance(reason, PcapdError) and reason.message == "Connection refused"
    assert client.events == ["closed"]


@pytest.fixture
def mute() -> Iterator[tuple[str, int]]:
    """A listener that takes connections and says nothing."""
    with socket.create_server((LOCAL, 0)) as listener:
        yield listener.getsockname()


@pytest_twisted.ensureDeferred
async def test_a_listener_that_says_nothing(reactor: Any, api: ClientContext, mute: tuple[str, int]) -> None:
    """A listener that sends nothing fails the handshake after its time limit."""
    client, _ = connect(reactor, mute, api, timeout=0.1)
    reason = await soon(reactor, client.closed)
    assert isinstance(reason, PcapdError) and "TLS handshake was not made in time" in reason.message


@pytest_twisted.ensureDeferred
async def test_leaving_in_the_middle_of_the_handshake(
    reactor: Any, api: ClientContext, mute: tuple[str, int]
) -> None:
    """A connection that is not ready yet closes at once, whether it is asked nicely or not."""
    client, transport = connect(reactor, mute, api)
    await deferLater(reactor, 0.05)
    transport.loseConnection()
    assert isinstance(await soon(reactor, client.closed), ConnectionAborted)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(300), b"\x16\x03\x01\xff\xff"]
)
@pytest_twisted.ensureDeferred
async def test_garbage_instead_of_tls(reactor: Any, server: Server, garbage: bytes) -> None:
    """A client that does not speak TLS is dropped, and counts no longer."""
    accepted = server.accepted()
    with socket.create_connection(server.address) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        there = await soon(reactor, accepted)
        assert isinstance(await soon(reactor, there.closed), PcapdError)
    assert there.events == ["closed"]
    assert server.port.open == 0
