"""The api's end of a client's WebSocket: who may say what when, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any, Mapping, Optional, Union

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws

from pcapd import COMPATIBILITY_LEVEL
from pcapd.api.http.stream import StreamResource
from pcapd.api.http.web import ClientInfo
from pcapd.errors import AuditUnavailable, BadRequest, ClientLeft, RequestError, TargetNotFound
from pcapd.limits import (
    ANSWERS_BURST,
    ANSWERS_PER_SECOND,
    CLIENT_MESSAGE_MAX,
    CLIENT_PING_INTERVAL,
    CLIENT_SILENCE_TIMEOUT,
    CONTROL_MAX,
    HANDSHAKE_TIMEOUT,
    START_TIMEOUT,
)
from pcapd.net.httpserver import HttpSite
from pcapd.wire import Caller, End, EndReason, Error, FrameType, Hello, Pong, Request, Source, encode_frame
from pcapd.wire.sessions import Message, Packets
from tests.kit.unit.transport import HttpTransport

HELLO = Hello(COMPATIBILITY_LEVEL, "client", "pcapctl", "1", 5)
REQUEST = Request(("web-0",), token="in START")


class FakeCapture:
    """What the api begins."""

    user = "alice"

    def __init__(self, *, unrecorded: bool = False) -> None:
        self.log: list[Any] = []
        self._unrecorded = unrecorded

    def start(self) -> None:
        if self._unrecorded:
            raise AuditUnavailable("no room")
        self.log.append("start")

    def stop(self, reason: EndReason, message: str = "") -> None:
        self.log.append(reason)

    def abandon(self, why: str) -> None:
        self.log.append("abandon")

    def pauseProducing(self) -> None:
        self.log.append("pause")

    def resumeProducing(self) -> None:
        self.log.append("resume")

    def stopProducing(self) -> None:
        pass


class FakeFront:
    """An api that answers when the test wants."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.begun: list[tuple[Request, Optional[str]]] = []
        self.answer: Deferred[Any] = Deferred()
        self.clients = 0
        #: What was refused, and what it wanted.
        self.refusals: list[tuple[RequestError, Mapping[str, Any]]] = []
        self.freed: list[Any] = []

    def accepting(self) -> None:
        pass

    def hello(self) -> Hello:
        return Hello(COMPATIBILITY_LEVEL, "api", "pcap-api/0", "1", 5)

    def client(self, request: Any) -> ClientInfo:
        return ClientInfo.of(request)

    def begin(self, request: Request, token: Optional[str], client: ClientInfo, sink: Any) -> Deferred[Any]:
        self.begun.append((request, token))
        return self.answer

    def refused(
        self, failure: Failure, client: ClientInfo, wanted: Optional[Mapping[str, Any]] = None
    ) -> RequestError:
        error = failure.value if isinstance(failure.value, RequestError) else ClientLeft("cancelled")
        self.refusals.append((error, wanted or {}))
        return error

    def released(self, capture: Any) -> None:
        self.freed.append(capture)

    def joined(self, sink: Any) -> None:
        self.clients += 1

    def left(self, sink: Any) -> None:
        self.clients -= 1


class Client:
    """A client whose WebSocket is open: a real one, on the site's own connection."""

    def __init__(self, token: Optional[str] = None) -> None:
        self.front = FakeFront()
        self.transport = HttpTransport()
        site = HttpSite(StreamResource(self.front), self.front.reactor)  # type: ignore[arg-type]
        self._channel: Any = site.buildProtocol(self.transport.getPeer())
        self._channel.makeConnection(self.transport)
        self.end = WSConnection(ConnectionType.CLIENT)
        headers = [(b"Authorization", f"bearer {token}".encode())] if token else []
        self.receive(self.end.send(ws.Request("api", "/", extra_headers=headers)))
        assert b"server:" not in self.transport.value().lower()
        self.pongs = self.pings = 0
        self.code: Optional[int] = None
        self.session = Caller()
        assert [type(message) for message in self.heard()] == [Hello]

    def receive(self, data: bytes) -> None:
        """Bytes of the client arrive, as long as the api reads."""
        if not self.transport.disconnecting:
            self._channel.dataReceived(data)

    def heard(self) -> list[Union[Message, Packets]]:
        """What the api has said since it was asked last."""
        self.front.reactor.advance(0)
        self.end.receive_data(self.transport.value())
        self.transport.clear()
        found: list[Union[Message, Packets]] = []
        for event in self.end.events():
            if isinstance(event, ws.BytesMessage):
                found += [said.message for said in self.session.receive(bytes(event.data))]
            elif isinstance(event, ws.CloseConnection):
                self.code = int(event.code)
            elif isinstance(event, ws.Pong):
                self.pongs += 1
            elif isinstance(event, ws.Ping):
                self.pings += 1
        return found

    def error(self) -> Error:
        (error,) = self.heard()
        assert isinstance(error, Error)
        return error

    def send(self, *frames: bytes) -> None:
        self.receive(self.end.send(ws.BytesMessage(b"".join(frames))))

    def start(self) -> None:
        self.send(self.session.hello(HELLO), self.session.start(REQUEST))

    def ask_to_stop(self) -> None:
        self.send(self.session.stop())

    def leave(self) -> None:
        self._channel.connectionLost(Failure(ConnectionDone()))

    def capture(self) -> FakeCapture:
        """Let what it asked for be allowed."""
        capture = FakeCapture()
        self.front.answer.callback(capture)
        return capture

    @property
    def sink(self) -> Any:
        """The api's end."""
        return self._channel._successor._user


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_client_without_start(client: Client) -> None:
    """A client without START gets an error, and is disconnected if it stays."""
    client.front.reactor.advance(START_TIMEOUT - 0.1)
    assert client.heard() == []
    client.front.reactor.advance(0.2)
    error = client.error()
    assert error.code == BadRequest.code and "no START" in error.message
    client.front.reactor.advance(HANDSHAKE_TIMEOUT)
    assert client.transport.aborted


def test_a_capture(client: Client) -> None:
    """START begins one, with the token in it; STOP stops it; after END the client is waited for."""
    client.start()
    assert client.front.begun == [(REQUEST, "in START")] and not client.transport.keeps_its_place
    capture = client.capture()
    assert capture.log == ["start"] and client.transport.keeps_its_place
    client.ask_to_stop()
    assert capture.log == ["start", EndReason.STOPPED] and client.front.freed == []
    client.sink.end(End(EndReason.STOPPED))
    assert client.heard() == [End(EndReason.STOPPED)]
    assert not client.transport.aborted and not client.transport.keeps_its_place
    assert client.front.freed == [capture]
    client.leave()
    assert client.front.clients == 0 and client.front.refusals == []


def test_a_capture_counts_until_its_end_is_read(client: Client) -> None:
    """A client that does not read the rest cannot start one capture after the other."""
    client.start()
    capture = client.capture()
    client.transport.producer.pauseProducing()
    client.sink.end(End(EndReason.STOPPED))
    assert client.front.freed == []
    client.transport.producer.resumeProducing()
    assert client.front.freed == [capture]


def test_the_header_counts_before_the_token_in_start() -> None:
    """The token of the header counts before the one in START."""
    client = Client(token="in-the-header")
    client.start()
    assert client.front.begun == [(REQUEST, "in-the-header")]


def test_a_capture_that_cannot_be_recorded(client: Client) -> None:
    """A capture that cannot be recorded is refused with the reason, and does not count."""
    client.start()
    capture = FakeCapture(unrecorded=True)
    client.front.answer.callback(capture)
    assert client.error().code == AuditUnavailable.code
    assert capture.log == ["abandon"] and client.front.freed == [capture]


def test_a_second_start(client: Client) -> None:
    """A second START is an error, and ends the first capture."""
    client.start()
    capture = client.capture()
    client.session._state = type(client.session._state).READY
    client.send(client.session.start(REQUEST))
    assert capture.log == ["start", "abandon"]
    assert "START frame" in client.error().message
    assert len(client.front.begun) == 1


def test_garbage_while_the_resolver_still_works(client: Client) -> None:
    """A client that is refused while its targets are resolved is never captured for."""
    client.start()
    client.send(b"garbage that is no frame")
    assert client.error().code == BadRequest.code
    assert client.capture().log == ["abandon"]
    assert client.heard() == []


def test_a_stop_while_the_resolver_still_works(client: Client) -> None:
    """A STOP while targets are resolved takes effect afterwards."""
    client.start()
    client.ask_to_stop()
    assert client.capture().log == ["start", EndReason.STOPPED]


def test_a_client_that_leaves_while_the_resolver_still_works(client: Client) -> None:
    """The question is withdrawn, nothing is captured, and the attempt is on record."""
    withdrawn: list[Any] = []
    client.front.answer = Deferred(withdrawn.append)
    client.start()
    client.leave()
    assert len(withdrawn) == 1
    ((error, wanted),) = client.front.refusals
    assert (error.code, wanted["targets"]) == ("client_left", ["web-0"])


def test_a_refusal_of_a_client_that_has_left(client: Client) -> None:
    """A refusal of a client that has left is not written, and nothing waits."""
    client.start()
    client.leave()
    client.front.answer.errback(TargetNotFound("there is no target 'x'"))
    assert client.front.reactor.getDelayedCalls() == []
    assert client.transport.value() == b""


@pytest.mark.parametrize("how", ["it breaks the protocol", "it says goodbye"])
def test_a_client_that_is_closing_while_the_resolver_still_works(client: Client, how: str) -> None:
    """A client that closes while its targets are resolved is not captured for."""
    client.start()
    if how == "it says goodbye":
        client.receive(client.end.send(ws.CloseConnection(1000)))
    else:
        client.receive(client.end.send(ws.TextMessage("hello")))
    assert client.front.answer.called and client.transport.disconnecting
    assert [error.code for error, _ in client.front.refusals] == ["client_left"]


def test_a_refusal(client: Client) -> None:
    """A refusal is passed on unchanged."""
    client.start()
    client.front.answer.errback(TargetNotFound("there is no target 'x'", "there are: y"))
    assert client.error() == Error(TargetNotFound.code, "there is no target 'x'", "there are: y")


def test_a_refusal_after_garbage_is_not_told_twice(client: Client) -> None:
    """A refusal after an ERROR is not sent as well."""
    client.start()
    client.send(b"garbage that is no frame")
    client.error()
    client.front.answer.errback(TargetNotFound("there is no target 'x'"))
    assert client.heard() == []


@pytest.mark.parametrize(
    ("token", "how", "codes"),
    [
        ("known", "no START", ["bad_request"]),
        (None, "no START", []),
        ("known", "it leaves", ["client_left"]),
        (None, "it leaves", []),
        ("known", "a bad START", ["bad_request"]),
        (None, "a bad START", ["bad_request"]),
    ],
)
def test_attempts_that_are_on_record(token: Optional[str], how: str, codes: list[str]) -> None:
    """An attempt with a token, or with a START, is recorded; a mere connection is not."""
    client = Client(token)
    if how == "no START":
        client.front.reactor.advance(START_TIMEOUT)
    elif how == "it leaves":
        client.leave()
    else:
        client.send(client.session.hello(HELLO), b"\0\0\0\2\2\0\0\0{}")
    assert [error.code for error, _ in client.front.refusals] == codes


def test_a_client_that_leaves_ends_its_capture(client: Client) -> None:
    """When a client leaves, its capture ends at once, also without a close frame."""
    client.start()
    capture = client.capture()
    client.leave()
    assert capture.log == ["start", "abandon"] and client.front.freed == [capture]


def test_a_client_that_says_goodbye_ends_its_capture(client: Client) -> None:
    """The close is answered; a client that then does not close the connection is disconnected."""
    client.start()
    capture = client.capture()
    client.receive(client.end.send(ws.CloseConnection(1000)))
    assert capture.log == ["start", "abandon"]
    client.heard()
    assert client.code == 1000 and client.transport.disconnecting and not client.transport.aborted
    client.front.reactor.advance(HANDSHAKE_TIMEOUT)
    assert client.transport.aborted


def turns(client: Client, seconds: float) -> None:
    """Let time pass as in an api that nothing holds up."""
    client.front.reactor.pump([CLIENT_PING_INTERVAL] * int(seconds / CLIENT_PING_INTERVAL))


def test_a_silent_client_is_given_up(client: Client) -> None:
    """A client that answers no ping is dropped; a pong keeps it."""
    client.start()
    client.capture()
    turns(client, CLIENT_SILENCE_TIMEOUT)
    client.receive(client.end.send(ws.Pong()))
    turns(client, CLIENT_SILENCE_TIMEOUT)
    client.heard()
    assert client.pings > 0 and not client.transport.aborted
    turns(client, CLIENT_PING_INTERVAL)
    assert client.transport.aborted


def test_a_pause_of_the_api_is_not_the_clients_silence(client: Client) -> None:
    """After a pause of the api a pong that waits in the socket keeps its client; without one the limit is as before."""
    client.start()
    client.capture()
    client.front.reactor.advance(10 * CLIENT_SILENCE_TIMEOUT)
    assert not client.transport.aborted
    turns(client, CLIENT_SILENCE_TIMEOUT + CLIENT_PING_INTERVAL)
    assert client.transport.aborted


def test_pings_are_answered(client: Client) -> None:
    """Pings are answered with the times that the clock offset needs."""
    client.send(client.session.hello(HELLO))
    client.send(client.session.ping(7))
    client.receive(client.end.send(ws.Ping(b"x")))
    (pong,) = client.heard()
    assert isinstance(pong, Pong) and pong.sent_us == 7 and client.pongs == 1


FLOODS = {
    "WebSocket PINGs": lambda client: client.end.send(ws.Ping()),
    "WebSocket PONGs": lambda client: client.end.send(ws.Pong()),
    "frame PINGs": lambda client: client.end.send(ws.BytesMessage(client.session.ping(1) * 10)),
    "pieces of a message": lambda client: client.end.send(ws.BytesMessage(b"", message_finished=False)),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_small_frames(client: Client, kind: str) -> None:
    """A bounded number is handled; one more ends the capture and the connection, and the rest is ignored."""
    client.send(client.session.hello(HELLO), client.session.start(REQUEST))
    capture = client.capture()
    flood = b"".join(FLOODS[kind](client) for _ in range(2 * ANSWERS_BURST))
    client.receive(flood)
    answers = sum(isinstance(message, Pong) for message in client.heard())
    assert answers + client.pongs <= ANSWERS_BURST
    assert capture.log == ["start", "abandon"]
    client.receive(flood)
    client.heard()
    assert client.transport.disconnecting and client.code == 1002


def test_pings_at_an_honest_rate_never_end(client: Client) -> None:
    """The bound is refilled while the client reads, and only then."""
    client.start()
    capture = client.capture()
    for _ in range(3 * ANSWERS_BURST):
        client.front.reactor.advance(1 / ANSWERS_PER_SECOND)
        client.receive(client.end.send(ws.Ping()))
    assert capture.log == ["start"]
    client.transport.producer.pauseProducing()
    for _ in range(ANSWERS_BURST + 1):
        client.front.reactor.advance(1 / ANSWERS_PER_SECOND)
        client.receive(client.end.send(ws.Ping()))
    assert capture.log == ["start", "pause", "abandon"]


def test_packets_that_come_while_it_closes_are_refused(client: Client) -> None:
    """Packets that come while the connection closes are refused, so that the capture counts them as lost."""
    client.start()
    client.capture()
    client.sink.source(1, Source("web-0", "eth0", 1, 262144, ""))
    sink = client.sink
    assert sink.packets(1, bytes(16)) is True
    client.receive(client.end.send(ws.TextMessage("hello")))
    assert sink.packets(1, bytes(16)) is False


def test_a_text_message_is_refused(client: Client) -> None:
    """A text message is refused with code 1002 of RFC 6455, and the connection ends."""
    client.receive(client.end.send(ws.TextMessage("hello")))
    client.heard()
    assert client.code == 1002 and not client.transport.aborted
    client.front.reactor.advance(HANDSHAKE_TIMEOUT)
    assert client.transport.aborted


def test_half_a_frame_is_refused(client: Client) -> None:
    """A message that holds half a frame is refused."""
    client.send(client.session.hello(HELLO)[:-1])
    assert "middle of a frame" in client.error().message


def test_a_message_without_an_end(client: Client) -> None:
    """A message without an end is refused with 1009 above the size of control frames, and not buffered further."""
    piece = ws.BytesMessage(bytes(CLIENT_MESSAGE_MAX // 2), message_finished=False)
    for _ in range(2):
        client.receive(client.end.send(piece))
    client.heard()
    assert client.code is None
    client.receive(client.end.send(ws.BytesMessage(b"x", message_finished=False)))
    client.heard()
    assert client.code == 1009


def test_messages_with_an_end_may_go_on_for_ever(client: Client) -> None:
    """The size limit applies to one message and not to the connection."""
    client.send(client.session.hello(HELLO))
    ping = b'{"sent_us":1}'.ljust(CONTROL_MAX)
    for _ in range(2 * CLIENT_MESSAGE_MAX // CONTROL_MAX):
        client.send(encode_frame(FrameType.PING, 0, ping))
        assert [type(message) for message in client.heard()] == [Pong]
    assert client.code is None


def test_tokens_are_in_no_message(client: Client) -> None:
    """No message of the api contains the token."""
    client.start()
    client.front.answer.errback(TargetNotFound("no"))
    client.front.reactor.advance(0)
    assert b"in START" not in client.transport.value()
    assert "in START" not in repr(REQUEST) and "in START" in json.dumps({"token": REQUEST.token})
