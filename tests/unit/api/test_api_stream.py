"""The api's end of a client's WebSocket: who may say what when, and what becomes of it."""

from __future__ import annotations

import json
import struct
from typing import Any, Optional, Union

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from pcapd import COMPATIBILITY_LEVEL
from pcapd.api.stream import StreamProtocol, _bound
from pcapd.api.web import ClientInfo
from pcapd.errors import BadRequest, RequestError, TargetNotFound
from pcapd.limits import (
    CLIENT_MESSAGE_MAX,
    CLIENT_PING_INTERVAL,
    CLIENT_SILENCE_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    START_TIMEOUT,
)
from pcapd.wire import Caller, End, EndReason, Error, Hello, Pong, Request, Source, Stream
from pcapd.wire.sessions import Message, Packets

HELLO = Hello(COMPATIBILITY_LEVEL, "client", "pcapctl", "1", 5)
REQUEST = Request(("web-0",), token="in START")


@implementer(IConsumer)
class Wire:
    """The TCP or TLS transport below."""

    def __init__(self) -> None:
        self.producer: Any = None
        self.aborted = False
        self.disconnecting = False
        self._written = bytearray()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming and self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self._written += data

    def writeSequence(self, pieces: list[bytes]) -> None:
        self._written += b"".join(pieces)

    def abortConnection(self) -> None:
        self.aborted = True

    def messages(self) -> list[bytes]:
        """The WebSocket messages that were written whole."""
        found, data = [], bytes(self._written)
        while data:
            opcode, length = data[0], data[1]
            assert opcode == 0x82, "a whole binary message, unmasked"
            skip = 2
            if length == 126:
                (length,), skip = struct.unpack_from("!H", data, 2), 4
            elif length == 127:
                (length,), skip = struct.unpack_from("!Q", data, 2), 10
            found.append(data[skip : skip + length])
            data = data[skip + length :]
        self._written.clear()
        return found


class WebSocket:
    """Twisted's transport of a WebSocket."""

    def __init__(self) -> None:
        self.transport = Wire()
        self.code: Optional[int] = None
        self.pings = 0

    def loseConnection(self, code: int) -> None:
        self.code = code

    def ping(self) -> None:
        self.pings += 1


class FakeCapture:
    """What the api begins."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def start(self) -> None:
        self.log.append("start")

    def stop(self, reason: EndReason, message: str = "") -> None:
        self.log.append(reason)

    def abandon(self, why: str) -> None:
        self.log.append("abandon")


class FakeFront:
    """An api that answers when the test wants."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.begun: list[tuple[Request, Optional[str]]] = []
        self.answer: Deferred[Any] = Deferred()
        self.clients = 0

    def hello(self) -> Hello:
        return Hello(COMPATIBILITY_LEVEL, "api", "pcap-api/0", "1", 5)

    def begin(self, request: Request, token: Optional[str], client: ClientInfo, sink: Any) -> Deferred[Any]:
        self.begun.append((request, token))
        return self.answer

    def refused(self, failure: Failure, client: ClientInfo) -> RequestError:
        assert isinstance(failure.value, RequestError)
        return failure.value

    def joined(self, sink: Any) -> None:
        self.clients += 1

    def left(self, sink: Any) -> None:
        self.clients -= 1


class Client:
    """A client whose WebSocket is open."""

    def __init__(self, token: Optional[str] = None) -> None:
        self.front = FakeFront()
        self.websocket = WebSocket()
        info = ClientInfo("192.0.2.1:5", Stream("192.0.2.1", 5, 6), "request-1", token)
        self.protocol = StreamProtocol(self.front, info, object())  # type: ignore[arg-type]
        self.protocol.negotiationStarted(self.websocket)
        self.protocol.negotiationFinished()
        self._caller = Caller()
        assert [type(message) for message in self.heard()] == [Hello]

    def heard(self) -> list[Union[Message, Packets]]:
        self.front.reactor.advance(0)
        return [
            event.message
            for message in self.websocket.transport.messages()
            for event in self._caller.receive(message)
        ]

    def error(self) -> Error:
        (error,) = self.heard()
        assert isinstance(error, Error)
        return error

    def send(self, *frames: bytes) -> None:
        self.protocol.bytesMessageReceived(b"".join(frames))

    def start(self) -> None:
        self.send(self._caller.hello(HELLO), self._caller.start(REQUEST))

    def ask_to_stop(self) -> None:
        self.send(self._caller.stop())

    def leave(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_client_without_start(client: Client) -> None:
    """It is told what was missing, and cut off when it does not leave by itself."""
    client.front.reactor.advance(START_TIMEOUT - 0.1)
    assert client.heard() == []
    client.front.reactor.advance(0.2)
    error = client.error()
    assert error.code == BadRequest.code and "no START" in error.message
    client.front.reactor.advance(HANDSHAKE_TIMEOUT)
    assert client.websocket.transport.aborted


def test_a_capture(client: Client) -> None:
    """START begins one, with the token in it; STOP stops it; after END the client is waited for."""
    client.start()
    assert client.front.begun == [(REQUEST, "in START")]
    capture = FakeCapture()
    client.front.answer.callback(capture)
    assert capture.log == ["start"] and client.websocket.transport.producer is capture
    client.ask_to_stop()
    assert capture.log == ["start", EndReason.STOPPED]
    client.protocol.end(End(EndReason.STOPPED))
    assert client.heard() == [End(EndReason.STOPPED)]
    assert client.websocket.transport.producer is None and not client.websocket.transport.aborted
    client.leave()
    assert client.front.clients == 0 and "abandon" not in capture.log


def test_the_header_counts_before_the_token_in_start() -> None:
    """Who sends both is known by the header: a router may have checked it."""
    client = Client(token="in the header")
    client.start()
    assert client.front.begun == [(REQUEST, "in the header")]


def test_a_second_start(client: Client) -> None:
    """It ends the first capture, and is an error."""
    client.start()
    capture = FakeCapture()
    client.front.answer.callback(capture)
    client._caller._state = type(client._caller._state).READY
    client.send(client._caller.start(REQUEST))
    assert capture.log == ["start", "abandon"]
    assert "START frame" in client.error().message
    assert len(client.front.begun) == 1


def test_garbage_while_the_resolver_still_works(client: Client) -> None:
    """What is resolved for somebody who was refused meanwhile is never captured."""
    client.start()
    client.send(b"garbage that is no frame")
    assert client.error().code == BadRequest.code
    capture = FakeCapture()
    client.front.answer.callback(capture)
    assert capture.log == ["abandon"]
    assert client.heard() == []


def test_a_stop_while_the_resolver_still_works(client: Client) -> None:
    """It is not forgotten."""
    client.start()
    client.ask_to_stop()
    capture = FakeCapture()
    client.front.answer.callback(capture)
    assert capture.log == ["start", EndReason.STOPPED]


def test_a_client_that_leaves_while_the_resolver_still_works(client: Client) -> None:
    """Nothing is captured for it."""
    client.start()
    client.leave()
    capture = FakeCapture()
    client.front.answer.callback(capture)
    assert capture.log == ["abandon"]


def test_a_refusal_of_a_client_that_has_left(client: Client) -> None:
    """Nothing is written to it, and nothing waits for it."""
    client.start()
    client.leave()
    client.front.answer.errback(TargetNotFound("there is no target 'x'"))
    assert client.front.reactor.getDelayedCalls() == []
    assert client.heard() == []


@pytest.mark.parametrize("how", ["it breaks the protocol", "it says goodbye"])
def test_a_client_that_is_closing_while_the_resolver_still_works(client: Client, how: str) -> None:
    """Nothing is captured for it any more."""
    client.start()
    if how == "it says goodbye":
        client.websocket.transport.disconnecting = True
        client.protocol.heed_goodbye()
    else:
        client.protocol.textMessageReceived("hello")
    capture = FakeCapture()
    client.front.answer.callback(capture)
    assert capture.log == ["abandon"] and client.websocket.transport.producer is None


def test_a_refusal(client: Client) -> None:
    """It is told as it is."""
    client.start()
    client.front.answer.errback(TargetNotFound("there is no target 'x'", "there are: y"))
    assert client.error() == Error(TargetNotFound.code, "there is no target 'x'", "there are: y")


def test_a_refusal_after_garbage_is_not_told_twice(client: Client) -> None:
    """One ERROR is the last message."""
    client.start()
    client.send(b"garbage that is no frame")
    client.error()
    client.front.answer.errback(TargetNotFound("there is no target 'x'"))
    assert client.heard() == []


def test_a_client_that_leaves_ends_its_capture(client: Client) -> None:
    """At once, also without a word."""
    client.start()
    capture = FakeCapture()
    client.front.answer.callback(capture)
    client.leave()
    assert capture.log == ["start", "abandon"]


def test_a_client_that_says_goodbye_ends_its_capture(client: Client) -> None:
    """Twisted waits for the producer before it closes, so nothing else would end it."""
    client.start()
    capture = FakeCapture()
    client.front.answer.callback(capture)
    wire = client.websocket.transport
    assert wire.producer is capture
    channel = Channel(client.protocol)
    _bound(channel)
    channel.dataReceived(b"no Close")
    assert capture.log == ["start"]
    wire.disconnecting = True  # as Twisted does when a Close is in what it takes
    channel.dataReceived(b"Close")
    assert capture.log == ["start", "abandon"] and wire.producer is None
    client.front.reactor.advance(HANDSHAKE_TIMEOUT)
    assert wire.aborted, "whoever does not close after its Close is cut off"


def turns(client: Client, seconds: float) -> None:
    """Let time pass as in an api that nothing holds up."""
    client.front.reactor.pump([CLIENT_PING_INTERVAL] * int(seconds / CLIENT_PING_INTERVAL))


def test_a_silent_client_is_given_up(client: Client) -> None:
    """One that answers no ping is gone; a pong keeps it."""
    client.start()
    client.front.answer.callback(FakeCapture())
    turns(client, CLIENT_SILENCE_TIMEOUT)
    client.protocol.pongReceived(b"")
    turns(client, CLIENT_SILENCE_TIMEOUT)
    assert client.websocket.pings > 0 and not client.websocket.transport.aborted
    turns(client, CLIENT_PING_INTERVAL)
    assert client.websocket.transport.aborted


def test_a_pause_of_the_api_is_not_the_clients_silence(client: Client) -> None:
    """Its pong waits in the socket; without one it is given up as late as ever."""
    client.start()
    client.front.answer.callback(FakeCapture())
    client.front.reactor.advance(10 * CLIENT_SILENCE_TIMEOUT)
    assert not client.websocket.transport.aborted
    turns(client, CLIENT_SILENCE_TIMEOUT + CLIENT_PING_INTERVAL)
    assert client.websocket.transport.aborted


def test_pings_are_answered(client: Client) -> None:
    """Liveness goes both ways; the clock offset needs the times."""
    client.send(client._caller.hello(HELLO))
    client.send(client._caller.ping(7))
    (pong,) = client.heard()
    assert isinstance(pong, Pong) and pong.sent_us == 7


def test_packets_that_come_while_it_closes_are_refused(client: Client) -> None:
    """So that the capture counts them as lost here; until then they are taken."""
    client.start()
    client.front.answer.callback(FakeCapture())
    source = Source("web-0", "eth0", 1, 262144, "")
    client.protocol.source(1, source)
    assert client.protocol.packets(1, bytes(16)) is True
    client.protocol.textMessageReceived("hello")
    assert client.protocol.packets(1, bytes(16)) is False


def test_a_text_message_is_refused(client: Client) -> None:
    """1002 is the code of RFC 6455 for it; who does not close then is cut off."""
    client.protocol.textMessageReceived("hello")
    assert client.websocket.code == 1002 and not client.websocket.transport.aborted
    client.front.reactor.advance(HANDSHAKE_TIMEOUT)
    assert client.websocket.transport.aborted


def test_half_a_frame_is_refused(client: Client) -> None:
    """A message holds whole frames."""
    client.send(client._caller.hello(HELLO)[:-1])
    assert "middle of a frame" in client.error().message


class Channel:
    """An HTTP channel that became a WebSocket."""

    def __init__(self, protocol: StreamProtocol) -> None:
        self._wsp = protocol
        self.took = 0

    def dataReceived(self, data: bytes) -> None:
        self.took += len(data)


def test_a_message_without_an_end(client: Client) -> None:
    """1009 once it is larger than control frames ever are; not a byte more is kept."""
    channel = Channel(client.protocol)
    _bound(channel)
    channel.dataReceived(bytes(CLIENT_MESSAGE_MAX))
    assert client.websocket.code is None
    for _ in range(3):
        channel.dataReceived(b"x")
    assert client.websocket.code == 1009 and channel.took == CLIENT_MESSAGE_MAX


def test_messages_with_an_end_may_go_on_for_ever(client: Client) -> None:
    """The bound is for one message."""
    channel = Channel(client.protocol)
    _bound(channel)
    client.send(client._caller.hello(HELLO))
    for _ in range(4):
        channel.dataReceived(bytes(CLIENT_MESSAGE_MAX))
        client.send(client._caller.ping(1))
    assert client.websocket.code is None


def test_tokens_are_in_no_message(client: Client) -> None:
    """What the api says back never has the token in it."""
    client.start()
    client.front.answer.errback(TargetNotFound("no"))
    client.front.reactor.advance(0)
    assert not any(b"in START" in message for message in client.websocket.transport.messages())
    assert "in START" not in repr(REQUEST) and "in START" in json.dumps({"token": REQUEST.token})
