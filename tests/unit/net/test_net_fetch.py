"""Questions to an authority: bounded in bytes and time, whatever it answers."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any, AsyncIterator, Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client

from demo import certificates
from pcapd.errors import ResolverUnavailable
from pcapd.limits import AUTHORITY_BODY_MAX
from pcapd.net import fetch
from pcapd.net.fetch import Authority, Conversation, Trust
from tests.kit.doubles.https import Answer, Asked, HttpsDouble
from tests.kit.unit.net import LOCAL


class Double(HttpsDouble):
    """Answers nothing in particular."""

    def answer(self, asked: Asked) -> Answer:
        return Answer()


@pytest.fixture
def reactor() -> Any:
    """The real one, whichever pytest-twisted has installed."""
    return sys.modules["twisted.internet.reactor"]


@pytest.fixture(scope="module")
def server(authority: certificates.Authority) -> Iterator[Double]:
    with Double(authority.issue("fetched", ips=(LOCAL,))) as double:
        yield double


@pytest_twisted.async_yield_fixture()
async def source(reactor: Any, server: Double, authority: certificates.Authority) -> AsyncIterator[Authority]:
    source = Authority(reactor, "the authority", server.url, Trust(authority.certificate_path))
    server.connections = 0
    yield source
    source.close()
    await deferLater(reactor, 0.01)
    server.canned.clear()
    assert not connected(reactor)


@pytest.fixture
def asked(source: Authority) -> Conversation:
    return source.conversation()


def connected(reactor: Any) -> bool:
    """Whether any connection of ours is open."""
    return any(isinstance(reader, Client) for reader in reactor.getReaders())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that little is much."""
    monkeypatch.setattr(fetch, "AUTHORITY_BODY_MAX", 1000)
    monkeypatch.setattr(fetch, "AUTHORITY_HEADERS_MAX", 500)


async def got(reactor: Any, conversation: Conversation, server: Double, answer: Answer) -> fetch.Answer:
    server.canned["/x"] = answer
    try:
        return await Deferred.fromCoroutine(conversation.get("/x"))
    finally:
        # Whatever comes afterwards disturbs nobody.
        await deferLater(reactor, 0.05)


@pytest.mark.usefixtures("small")
@pytest_twisted.ensureDeferred
async def test_an_answer_within_its_bounds(reactor: Any, asked: Conversation, server: Double) -> None:
    """The bounds themselves are allowed, and hold for each answer by itself."""
    for _ in range(3):
        answer = await got(reactor, asked, server, Answer(body=b"x" * 1000))
        assert (answer.status, answer.body) == (200, b"x" * 1000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body=b"x" * 1001), "the authority answered with more than 1000 bytes"),
        (Answer(body=b"x" * 2000), "the authority"),
        (Answer(headers=(("X-Long", "x" * 2000),)), "the authority cannot be reached"),
        (Answer(body=b"half", length=8), "the answer of the authority was cut off"),
    ],
    ids=["body", "more than all", "headers", "half"],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_beyond_its_bounds(
    reactor: Any, asked: Conversation, server: Double, answer: Answer, words: str
) -> None:
    """An answer beyond its bounds is an error, and none of it is used."""
    with pytest.raises(ResolverUnavailable, match=words):
        await got(reactor, asked, server, answer)


@pytest_twisted.ensureDeferred
async def test_a_body_that_goes_on_and_on(
    reactor: Any, asked: Conversation, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is too large is reported once, however much comes and however it ends."""
    monkeypatch.setattr(fetch, "AUTHORITY_BODY_MAX", 1000)
    monkeypatch.setattr(fetch, "AUTHORITY_HEADERS_MAX", AUTHORITY_BODY_MAX)
    with pytest.raises(ResolverUnavailable, match="more than 1000 bytes"):
        await got(reactor, asked, server, Answer(body=b"x" * 300_000))


@pytest_twisted.ensureDeferred
async def test_a_server_that_closes_after_each_answer(
    reactor: Any, asked: Conversation, server: Double
) -> None:
    """A server that closes after each answer is connected to again for the next request."""
    for _ in range(2):
        answer = await got(reactor, asked, server, Answer(headers=(("Connection", "close"),)))
        assert answer.status == 200
    assert server.connections == 2


@pytest_twisted.ensureDeferred
async def test_an_answer_that_goes_on_is_left_at_once(
    reactor: Any, asked: Conversation, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that exceeds its bound is left at once."""
    monkeypatch.setattr(fetch, "AUTHORITY_BODY_MAX", 10)
    with pytest.raises(ResolverUnavailable, match="more than 10 bytes"):
        await got(reactor, asked, server, Answer(body=b"x" * 1000, trickle=0.001))
    assert not connected(reactor)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_does_not_come(
    reactor: Any, asked: Conversation, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that does not come is given up after its time."""
    monkeypatch.setattr(fetch, "AUTHORITY_CALL_TIMEOUT", 0.1)
    with pytest.raises(ResolverUnavailable, match=r"did not answer within 0\.1 s"):
        await got(reactor, asked, server, Answer(delay=0.5))
    # What comes after all is not taken for the next answer.
    assert (await got(reactor, asked, server, Answer(body=b"next"))).body == b"next"


@pytest.mark.parametrize(
    ("connecting", "asking", "words"),
    [
        (0.05, 2.0, "cannot be reached: no connection was made in time"),
        (2.0, 0.05, "did not answer within 0.05 s"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_connection_that_nobody_takes(
    reactor: Any,
    authority: certificates.Authority,
    monkeypatch: pytest.MonkeyPatch,
    connecting: float,
    asking: float,
    words: str,
) -> None:
    """A connection attempt is given up in its own time, or in the request's after a slow name lookup."""
    monkeypatch.setattr(fetch, "HANDSHAKE_TIMEOUT", connecting)
    monkeypatch.setattr(fetch, "AUTHORITY_CALL_TIMEOUT", asking)
    waiting: list[socket.socket] = []
    with socket.create_server((LOCAL, 0), backlog=0) as listener:
        for _ in range(3):  # more than the kernel keeps for who never accepts
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
        url = f"https://{LOCAL}:{listener.getsockname()[1]}"
        conversation = Authority(
            reactor, "the authority", url, Trust(authority.certificate_path)
        ).conversation()
        with pytest.raises(ResolverUnavailable, match=f"the authority {words}"):
            await Deferred.fromCoroutine(conversation.get("/"))
    for each in waiting:
        each.close()


# --- connections that are kept -----------------------------------------------


@pytest_twisted.ensureDeferred
async def test_questions_share_connections(reactor: Any, source: Authority, server: Double) -> None:
    """Successive requests share one connection; simultaneous ones use one each, and all are kept."""
    for _ in range(5):
        await got(reactor, source.conversation(), server, Answer())
    assert server.connections == 1
    server.canned["/x"] = Answer(delay=0.2)
    for _ in range(2):
        await DeferredList([Deferred.fromCoroutine(source.get("/x")) for _ in range(4)])
    assert server.connections == 4


@pytest_twisted.ensureDeferred
async def test_so_many_are_kept(
    reactor: Any, source: Authority, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle connections are kept up to a number and a time."""
    monkeypatch.setattr(fetch, "AUTHORITY_KEPT", 2)
    monkeypatch.setattr(fetch, "AUTHORITY_IDLE_TIME", 0.2)
    source.renew()
    server.canned["/x"] = Answer(delay=0.1)
    await DeferredList([Deferred.fromCoroutine(source.get("/x")) for _ in range(4)])
    await deferLater(reactor, 0.05)
    assert sum(isinstance(reader, Client) for reader in reactor.getReaders()) == 2
    await deferLater(reactor, 0.3)
    assert not connected(reactor)


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_that_is_gone(reactor: Any, source: Authority, server: Double) -> None:
    """A kept connection that the server has closed fails no request."""
    for pause in (0.0, 0.1):
        assert (await got(reactor, source.conversation(), server, Answer(body=b"one"))).body == b"one"
        server.cut()
        if pause:
            await deferLater(reactor, pause)
        assert (await got(reactor, source.conversation(), server, Answer(body=b"two"))).body == b"two"


@pytest_twisted.ensureDeferred
async def test_bytes_that_nobody_asked_for(reactor: Any, source: Authority, server: Double) -> None:
    """Bytes behind an answer are not taken for the next one."""
    more = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    first = await got(
        reactor, source.conversation(), server, Answer(body=b"good" + more, length=4, trickle=0.001)
    )
    second = await got(reactor, source.conversation(), server, Answer(body=b"next"))
    assert (first.body, second.body) == (b"good", b"next")


@pytest_twisted.ensureDeferred
async def test_a_conversation_that_is_closed(reactor: Any, source: Authority, server: Double) -> None:
    """A closed conversation asks nothing more; the answer under way is read so that the connection can be kept."""
    conversation = source.conversation()
    server.canned["/x"] = Answer(delay=0.2)
    asking = Deferred.fromCoroutine(conversation.get("/x"))
    await deferLater(reactor, 0.1)
    conversation.close()
    before = len(server.asked)
    for request in (asking, Deferred.fromCoroutine(conversation.get("/x"))):
        with pytest.raises(CancelledError):
            await request
    assert len(server.asked) == before
    await got(reactor, source.conversation(), server, Answer())
    assert server.connections == 1


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_cancelled(reactor: Any, source: Authority, server: Double) -> None:
    """A request that is cancelled closes its connection, before the answer and within it."""
    for answer in (Answer(delay=0.5), Answer(body=b"x" * 100, trickle=0.01)):
        server.canned["/x"] = answer
        asking = Deferred.fromCoroutine(source.get("/x"))
        await deferLater(reactor, 0.2)
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        await deferLater(reactor, 0.01)
        assert not connected(reactor)


@pytest_twisted.ensureDeferred
async def test_another_authority(
    reactor: Any, server: Double, authority: certificates.Authority, tmp_path: Path
) -> None:
    """After a change of the authority no connection that the old one verified is used again."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate_path.read_bytes())
    trust = Trust(ca)
    source = Authority(reactor, "the authority", server.url, trust)
    server.canned["/x"] = Answer(delay=0.2)
    both = [Deferred.fromCoroutine(source.get(target)) for target in ("/x", "/y")]
    assert (await both[1]).status == 200
    ca.write_bytes(certificates.Authority(tmp_path / "other").certificate_path.read_bytes())
    trust.prepare()()
    source.renew()
    assert (await both[0]).status == 200
    await deferLater(reactor, 0.05)
    assert not connected(reactor)
    asked = len(server.asked)
    with pytest.raises(ResolverUnavailable, match="TLS failed"):
        await Deferred.fromCoroutine(source.get("/x"))
    assert len(server.asked) == asked
