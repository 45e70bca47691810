"""Peers that break the protocol: each is dropped in words, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import time
from typing import Any, Callable, Iterator

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from demo.configurations import LOCAL
from demo.processes import usage, wait_until
from pcapd import COMPATIBILITY_LEVEL
from pcapd.wire import Error, Hello, Packets, Ping, Source
from pcapd.wire.sessions import Caller, encode_message
from tests.kit.doubles.hostile_agent import Conversation, HostileAgent
from tests.kit.hosts.chain import Chain, usage_of
from tests.kit.lab.generator import FILTER, Generator

HELLO = encode_message(Hello(COMPATIBILITY_LEVEL, "api", "test", "1", 0))
HEADER = struct.Struct("!IBBH")
_HELLO, _START, _PACKETS, _STOP = 1, 2, 4, 7


def frame(kind: int, payload: bytes, source: int = 0, flags: int = 0) -> bytes:
    """A frame that nothing checks."""
    return HEADER.pack(len(payload), kind, flags, source) + payload


def record(captured: int, length: int, data: bytes, seconds: int = 1_700_000_000) -> bytes:
    """A record that nothing checks, as PACKETS frames hold them."""
    return struct.pack("!IIII", seconds, 0, captured, length) + data


START = {"targets": ["web-0"], "interfaces": ["eth0"]}


def start(**fields: Any) -> bytes:
    """A client's START."""
    return frame(_START, json.dumps({**START, **fields}).encode())


# --- an agent that is hostile to the api ---------------------------------------


def after_open(*pieces: bytes) -> Callable[[Conversation], None]:
    """A script: open source 1, then say these bytes."""

    def script(peer: Conversation) -> None:
        peer.open()
        peer.send(*pieces)
        peer.wait()

    return script


def truncated(peer: Conversation) -> None:
    peer.open()
    peer.send(frame(_PACKETS, bytes(100), 1)[:50])


def older(peer: Conversation) -> None:
    peer.greet(COMPATIBILITY_LEVEL - 1)
    peer.wait()


def garbage(peer: Conversation) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
    peer.wait()


def hangs_up(peer: Conversation) -> None:
    peer.greet()


def silent_after_hello(peer: Conversation) -> None:
    peer.greet()
    peer.wait()


HOSTILE: dict[str, tuple[Callable[[Conversation], None], str]] = {
    "truncated": (truncated, "closed"),
    "unknown type": (after_open(frame(99, b"")), "unknown type 99"),
    "unknown flags": (after_open(frame(_PACKETS, b"", 1, flags=4)), "unknown flags"),
    "oversized": (after_open(HEADER.pack(2**31, _PACKETS, 0, 1)), "exceeds the bound"),
    "oversized control": (after_open(HEADER.pack(65537, 5, 0, 1)), "exceeds the bound"),
    "lies: longer than its frame": (
        after_open(frame(_PACKETS, record(1000, 1000, bytes(60)), 1)),
        "record",  # fmt: skip
    ),
    "lies: four gigabytes": (after_open(frame(_PACKETS, record(2**32 - 1, 60, bytes(60)), 1)), "record"),
    "lies: captured more than there was": (
        after_open(frame(_PACKETS, record(60, 10, bytes(60)), 1)),
        "record",  # fmt: skip
    ),
    "half a record": (after_open(frame(_PACKETS, record(60, 60, bytes(60))[:10], 1)), "record"),
    "unopened source": (after_open(frame(_PACKETS, record(60, 60, bytes(60)), 7)), "source 7"),
    "no JSON": (after_open(frame(5, b"{" * 1000, 1)), "not JSON"),
    "deep JSON": (after_open(frame(5, b"[" * 60_000, 1)), "not JSON"),
    "wrong fields": (after_open(frame(5, b'{"received": -1}', 1)), "Stats message"),
    "START from an agent": (after_open(start()), "START frame"),
    "older level": (older, "speaks level"),
    "too many sources": (
        after_open(
            *(encode_message(Source("i", f"e{n}", 1, 96, "", excludes_api=True), n) for n in range(2, 10))
        ),
        "more sources than",
    ),
    "another protocol": (garbage, "frame"),
    "hangs up": (hangs_up, "closed"),
    "silent": (silent_after_hello, "PONG"),
}


@pytest.fixture
def hostile(chain: Chain) -> Iterator[HostileAgent]:
    """In the place of target nobody."""
    port = chain.api.config["static"]["targets"]["nobody"]["port"]
    with HostileAgent(chain.authority.issue_agent("hostile"), older, port) as agent:
        yield agent


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.long(
    but=(
        "no JSON",
        "lies: captured",
    )
)
def test_a_hostile_agent(chain: Chain, hostile: HostileAgent, case: str) -> None:
    """A hostile agent is dropped with a message that names its mistake; the other target's packets are complete."""
    hostile.script, words = HOSTILE[case]
    with Generator(chain.link, rate=500):
        client = chain.begin("nobody", "web-1", "--filter", FILTER)
        wait_until(
            lambda: any(event["event"] == "notice" for event in client.events()), "a notice", timeout=15
        )
        client.wait_for("web-1:eth0", packets=1)
        result = client.stop()
    assert result.status == 3, result.stderr
    (notice,) = result.notices
    assert notice["origin"] == "nobody"
    assert words in notice["message"]
    healthy = result.sources["web-1:eth0"]
    assert healthy["received"] == healthy["written"] == len(result.file.of("web-1:eth0")) > 0
    assert not [line for line in chain.api.records() if "failure" in line]


# --- raw clients against the agent -------------------------------------------------


@contextlib.contextmanager
def as_api(chain: Chain) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the agent with the api's certificate."""
    context = ssl.create_default_context(cafile=str(chain.authority.certificate_path))
    tls = chain.api.config["agents"]["tls"]
    context.load_cert_chain(tls["certificate"], tls["private_key"])
    with socket.create_connection((LOCAL, chain.agent.port), 30) as plain:
        with context.wrap_socket(plain, server_hostname=tls["server_name"]) as secure:
            yield secure


def closes(connection: socket.socket) -> bool:
    """Read until the peer closes; False when it does not."""
    connection.settimeout(30)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


AGENT_START = {"capture": "c", "request_id": "r", "instance": "i", "interfaces": ["lo"]}
TO_AGENT = {
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "unknown type": frame(200, b""),
    "oversized": HEADER.pack(2**32 - 1, _START, 0, 0),
    "packets": frame(_PACKETS, record(4, 4, b"abcd"), 1),
    "no JSON": frame(_HELLO, b"\xff\xfe"),
    "deep JSON": frame(_HELLO, b"[" * 65_000),
    "start before hello": frame(_START, json.dumps(AGENT_START).encode()),
    "stop before start": HELLO + frame(_STOP, b"{}"),
    "start twice": HELLO + 2 * frame(_START, json.dumps(AGENT_START).encode()),
    "start of a wrong type": HELLO + frame(_START, json.dumps({**AGENT_START, "snaplen": "x"}).encode()),
    "too many interfaces": HELLO
    + frame(_START, json.dumps({**AGENT_START, "interfaces": [f"e{n}" for n in range(99)]}).encode()),
    "an address that is none": HELLO
    + frame(
        _START,
        json.dumps({**AGENT_START, "api": {"addresses": ["1) or (tcp"], "port": 1}}).encode(),
    ),
}


@pytest.mark.parametrize("case", TO_AGENT)
@pytest.mark.long(
    but=(
        "garbage",
        "start twice",
        "oversized",
    )
)
def test_garbage_towards_an_agent(chain: Chain, case: str) -> None:
    """Garbage towards an agent ends the connection, keeps no memory, and leaves the next peer served."""
    before = usage_of({"agent": chain.agent.pid})["agent"]
    with as_api(chain) as connection:
        connection.sendall(TO_AGENT[case])
        assert closes(connection)
    wait_until(lambda: usage_of({"agent": chain.agent.pid})["agent"] <= before, "nothing is kept", timeout=15)
    assert chain.capture("web-0", "--duration", "100ms").status == 0
    assert not [line for line in chain.agent.records() if "failure" in line]


# --- raw clients against the api ---------------------------------------------------


class RawClient:
    """A WebSocket client that says what it is told to."""

    def __init__(self, chain: Chain) -> None:
        context = ssl.create_default_context(cafile=str(chain.authority.certificate_path))
        plain = socket.create_connection((LOCAL, chain.api.port), 30)
        self.socket = context.wrap_socket(plain, server_hostname=LOCAL)
        self._websocket = WSConnection(ConnectionType.CLIENT)
        headers = [(b"Authorization", b"bearer " + chain.token.encode())]
        self.raw(self._websocket.send(Request(host=LOCAL, target="/v1/stream", extra_headers=headers)))
        assert isinstance(next(self._events()), AcceptConnection)

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, message: Any) -> None:
        # It may have been closed by an earlier mistake already.
        with contextlib.suppress(OSError):
            self.raw(self._websocket.send(message))

    def _events(self) -> Iterator[Any]:
        while data := self.socket.recv(65536):
            self._websocket.receive_data(data)
            yield from self._websocket.events()

    def answers(self) -> list[Any]:
        """What the api says until an ERROR or until it closes; what is no frame of the protocol fails."""
        session = Caller()
        found: list[Any] = []
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for event in self._events():
                if isinstance(event, BytesMessage):
                    for answer in session.receive(bytes(event.data)):
                        found.append(answer.message)
                        if isinstance(answer.message, Error):
                            return found
                elif isinstance(event, CloseConnection):
                    found.append(event)
        return found


TO_API = {
    "garbage": ([BytesMessage(b"x" * 100)], "type"),
    "unknown type": ([BytesMessage(frame(200, b""))], "unknown type 200"),
    "oversized": ([BytesMessage(HEADER.pack(2**31, _START, 0, 0))], "exceeds the bound"),
    "truncated": ([BytesMessage(HELLO + start()[:-5])], "middle of a frame"),
    "packets": ([BytesMessage(HELLO + frame(_PACKETS, record(1, 1, b"x"), 1))], "PACKETS frame"),
    "no JSON": ([BytesMessage(frame(_HELLO, b"nonsense"))], "not JSON"),
    "deep JSON": ([BytesMessage(frame(_HELLO, b"[" * 65_000))], "not JSON"),
    "no targets": ([BytesMessage(HELLO + start(targets=[]))], "target"),
    "targets of a wrong type": ([BytesMessage(HELLO + start(targets="web-0"))], "not a list"),
    "endless duration": ([BytesMessage(HELLO + start(duration=-1))], "duration"),
    "start twice": ([BytesMessage(HELLO + start() + start())], "START frame"),
}


@pytest.mark.parametrize("case", TO_API)
def test_garbage_towards_the_api(chain: Chain, case: str) -> None:
    """Garbage towards the api gets an ERROR that names the mistake, ends the connection, and keeps no memory."""
    messages, words = TO_API[case]
    before = usage_of({"api": chain.api.pid})["api"]
    client = RawClient(chain)
    for message in messages:
        client.send(message)
    answers = client.answers()
    client.socket.close()
    (error,) = [answer for answer in answers if isinstance(answer, Error)]
    assert error.code == "bad_request" and words in error.message
    wait_until(lambda: usage_of({"api": chain.api.pid})["api"] <= before, "nothing is kept", timeout=15)
    assert not [line for line in chain.api.records() if "failure" in line]


def test_a_text_message_is_a_protocol_error(chain: Chain) -> None:
    """A text message closes the WebSocket with 1002."""
    client = RawClient(chain)
    client.send(TextMessage("hello"))
    closed = [answer for answer in client.answers() if isinstance(answer, CloseConnection)]
    assert [event.code for event in closed] == [1002]


def test_a_client_that_closes_while_it_captures(chain: Chain) -> None:
    """CLOSE instead of STOP ends the capture at once, also when there is no traffic and the TCP connection stays."""
    wait_until(chain.settled, "earlier captures are gone", timeout=20)
    client = RawClient(chain)
    client.send(BytesMessage(HELLO + start(filter="udp port 1")))
    events = client._events()
    while b'"link_type"' not in bytes(next(events).data):
        pass
    assert not chain.settled()
    client.send(CloseConnection(code=1000))
    wait_until(chain.settled, "the capture is over", timeout=10)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        assert any(isinstance(event, CloseConnection) for event in events)
    ended = [line for line in chain.api.records() if line.get("audit") == "capture_ended"]
    assert (ended[-1]["reason"], ended[-1]["detail"]) == ("abandoned", "the client is gone")


def test_a_client_that_sends_too_much(chain: Chain) -> None:
    """A message without an end is cut off before it fills any memory (its code: test_api_stream)."""
    client = RawClient(chain)
    before = usage(chain.api.pid).rss
    piece = bytes(256 * 1024)
    with contextlib.suppress(OSError):
        for _ in range(200):
            client.send(BytesMessage(piece, message_finished=False))
    after = usage(chain.api.pid).rss
    client.socket.close()
    assert after < before + 16 * 1024 * 1024, f"{len(piece) * 200} bytes were sent"


def test_a_request_with_a_body(chain: Chain) -> None:
    """A body is refused before it is stored."""
    done = chain.curl(
        "target=web-0",
        *("--header", "Expect: 100-continue"),
        *("--data-binary", "@/bin/bash"),
        *("--output", os.devnull, "--write-out", "%{http_code}"),
    )
    assert done.stdout == b"413"


@pytest.mark.long
def test_those_who_connect_and_say_nothing(chain: Chain) -> None:
    """Silent peers are dropped: without TLS, without START at the api, without START at an agent."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        bare = [
            stack.enter_context(socket.create_connection((LOCAL, port), 30))
            for port in (chain.api.port, chain.agent.port)
        ]
        at_agent = stack.enter_context(as_api(chain))
        client = RawClient(chain)
        greeted = RawClient(chain)
        greeted.send(BytesMessage(HELLO))
        for connection in bare:
            assert closes(connection)
        assert closes(at_agent)
        for one in (client, greeted):
            answers = one.answers()
            assert isinstance(answers[0], Hello)
            assert not any(isinstance(answer, (Packets, Ping)) for answer in answers)
            one.socket.close()
    assert time.monotonic() - began < 25
    assert "left without START" in chain.agent.log()
