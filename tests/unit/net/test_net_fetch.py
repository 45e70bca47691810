"""Questions to an authority: bounded in bytes and time, whatever it answers."""

from __future__ import annotations

import socket
import sys
from typing import Any, AsyncIterator, Iterator

import pytest
import pytest_twisted
from net_peers import LOCAL
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client

from pcapd.errors import ResolverUnavailable
from pcapd.limits import AUTHORITY_BODY_MAX
from pcapd.net import fetch
from pcapd.net.fetch import Authority, Conversation, Trust
from tests.doubles.https import Answer, Asked, HttpsDouble
from tests.lab import certificates


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
async def asked(
    reactor: Any, server: Double, authority: certificates.Authority
) -> AsyncIterator[Conversation]:
    conversation = Authority(
        reactor, "the authority", server.url, Trust(authority.certificate_path)
    ).conversation()
    yield conversation
    conversation.close()
    await deferLater(reactor, 0.01)


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
        (Answer(headers=(("X-Long", "x" * 2000),)), "the authority cannot be asked"),
        (Answer(body=b"half", length=8), "the answer of the authority was cut off"),
    ],
    ids=["body", "more than all", "headers", "half"],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_beyond_its_bounds(
    reactor: Any, asked: Conversation, server: Double, answer: Answer, words: str
) -> None:
    """Nothing of it is believed."""
    with pytest.raises(ResolverUnavailable, match=words):
        await got(reactor, asked, server, answer)


@pytest_twisted.ensureDeferred
async def test_a_body_that_goes_on_and_on(
    reactor: Any, asked: Conversation, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is too large is told once, however much comes and however it ends."""
    monkeypatch.setattr(fetch, "AUTHORITY_BODY_MAX", 1000)
    monkeypatch.setattr(fetch, "AUTHORITY_HEADERS_MAX", AUTHORITY_BODY_MAX)
    with pytest.raises(ResolverUnavailable, match="more than 1000 bytes"):
        await got(reactor, asked, server, Answer(body=b"x" * 300_000))


@pytest_twisted.ensureDeferred
async def test_a_server_that_closes_after_each_answer(
    reactor: Any, asked: Conversation, server: Double
) -> None:
    """It is connected to again for the next question, and what is gone can be left as well as what is not."""
    for _ in range(2):
        answer = await got(reactor, asked, server, Answer(headers=(("Connection", "close"),)))
        assert answer.status == 200
    asked.close()


@pytest_twisted.ensureDeferred
async def test_an_answer_that_goes_on_is_left_at_once(
    reactor: Any, asked: Conversation, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever closes is not connected any more, however much the other side still has to say."""
    monkeypatch.setattr(fetch, "AUTHORITY_BODY_MAX", 10)
    with pytest.raises(ResolverUnavailable, match="more than 10 bytes"):
        await got(reactor, asked, server, Answer(body=b"x" * 1000, trickle=0.001))
    assert any(isinstance(reader, Client) for reader in reactor.getReaders())
    asked.close()
    await deferLater(reactor, 0.01)
    assert not any(isinstance(reader, Client) for reader in reactor.getReaders())


@pytest_twisted.ensureDeferred
async def test_an_answer_that_does_not_come(
    reactor: Any, asked: Conversation, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so much time it is not waited for any longer."""
    monkeypatch.setattr(fetch, "AUTHORITY_CALL_TIMEOUT", 0.1)
    with pytest.raises(ResolverUnavailable, match=r"did not answer within 0\.1 s"):
        await got(reactor, asked, server, Answer(delay=0.5))


@pytest.mark.parametrize(
    ("connecting", "asking", "words"),
    [
        (0.05, 2.0, "cannot be asked: no connection was made in time"),
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
    """It is given up in its own time, or in the question's where a name took long to be looked up."""
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
        conversation.close()
    for each in waiting:
        each.close()
