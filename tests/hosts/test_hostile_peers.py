"""Peers that are slow, many, or ask for what costs: all others are served meanwhile."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import ssl
import struct
import threading
import time
from typing import Callable, Iterator

import pytest

from demo.configurations import LOCAL
from demo.processes import usage, wait_until
from pcapd import COMPATIBILITY_LEVEL
from pcapd.limits import ACCEPTS_PER_WAKEUP, CONNECTIONS_MAX, FILTER_MAX, HANDSHAKE_TIMEOUT, REQUEST_TIMEOUT
from pcapd.wire import Caller, Hello, Pong
from tests.kit.doubles.hostile_agent import Conversation, HostileAgent
from tests.kit.hosts.chain import MIB, Chain, usage_of

#: Seconds of a busy machine on top of a time limit.
GRACE = 12.0


@contextlib.contextmanager
def to_api(chain: Chain) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the api."""
    context = ssl.create_default_context(cafile=str(chain.authority.certificate_path))
    with socket.create_connection((LOCAL, chain.api.port), 60) as plain:
        with context.wrap_socket(plain, server_hostname=LOCAL) as connection:
            yield connection


def seconds_until_closed(connection: socket.socket, dribble: Callable[[], None]) -> float:
    """Send a byte now and then until the other end closes."""
    began = time.monotonic()
    connection.settimeout(0.25)
    while time.monotonic() - began < 60:
        try:
            dribble()
            if not connection.recv(4096):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def a_slow_handshake(chain: Chain, port: int) -> float:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    pieces = iter(hello[n : n + 1] for n in range(len(hello)))
    with socket.create_connection((LOCAL, port), 60) as connection:
        return seconds_until_closed(connection, lambda: connection.sendall(next(pieces)))


def a_slow_request(chain: Chain, port: int) -> float:
    with to_api(chain) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: api\r\nX-Slow: ")
        return seconds_until_closed(connection, lambda: connection.sendall(b"x"))


def slow_lines(chain: Chain, port: int) -> float:
    with to_api(chain) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: api\r\n")
        return seconds_until_closed(connection, lambda: connection.sendall(b"X: y\r\n"))


def a_slow_second_request(chain: Chain, port: int) -> float:
    with to_api(chain) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: api\r\n\r\nG")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        return seconds_until_closed(connection, lambda: connection.sendall(b"x"))


@pytest.mark.long
def test_those_who_send_byte_after_byte(chain: Chain) -> None:
    """A handshake or a request that does not end is cut off in time, however lively it is; others are served."""
    slow = {
        "handshake with the api": (a_slow_handshake, chain.api.port, HANDSHAKE_TIMEOUT),
        "handshake with an agent": (a_slow_handshake, chain.agent.port, HANDSHAKE_TIMEOUT),
        "bytes of a header": (a_slow_request, chain.api.port, REQUEST_TIMEOUT),
        "lines of a header": (slow_lines, chain.api.port, REQUEST_TIMEOUT),
        "a second request": (a_slow_second_request, chain.api.port, REQUEST_TIMEOUT),
    }
    took: dict[str, float] = {}

    def run(name: str) -> None:
        attack, port, _ = slow[name]
        took[name] = attack(chain, port)

    threads = [threading.Thread(target=run, args=(name,)) for name in slow]
    for thread in threads:
        thread.start()
    assert chain.capture("web-0", "--duration", "100ms").status == 0
    for thread in threads:
        thread.join()
    for name, (_, _, limit) in slow.items():
        assert limit - 1 < took[name] < limit + GRACE, (name, took)


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"GET /health HTTP/1.1\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n", b""),
        (b"GET /health HTTP/1.1\r\n" + b"X-Many: y\r\n" * 510 + b"\r\n", b"HTTP/1.1 400"),
        (b"GET /" + b"x" * 200_000, b""),
        (b"GET /health HTTP/1.1\r\n" + b"x" * 1_000 + b"\r\n\r\n", b"HTTP/1.1 400"),
    ],
    ids=["long", "many", "endless", "no header"],
)
def test_heads_that_are_too_large(chain: Chain, head: bytes, answer: bytes) -> None:
    """A request's head is bounded: nothing of it is kept, and the connection is closed."""
    before = usage(chain.api.pid).rss
    began = time.monotonic()
    said = b""
    with to_api(chain) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head)
            while data := connection.recv(4096):
                said += data
    assert said[:12] == answer
    assert time.monotonic() - began < REQUEST_TIMEOUT / 2
    assert usage(chain.api.pid).rss < before + 8 * MIB


UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: api\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /capture?target=web-0 HTTP/1.1\r\nHost: api\r\nX-Vcap-Request-Id: \xff\xfe\r\n\r\n",
        UPGRADE + b"Host: another\r\n\r\n",
    ],
    ids=["not text", "two hosts"],
)
def test_heads_that_are_broken(chain: Chain, head: bytes) -> None:
    """Broken request heads are answered with 400 in our form, and cause no internal error."""
    with to_api(chain) as connection:
        connection.sendall(head)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400")
        while b"bad_request" not in answer:
            answer += connection.recv(65536) or pytest.fail(repr(answer))
    assert not [line for line in chain.api.records() if "failure" in line]


def test_a_flood_of_connections(chain: Chain) -> None:
    """More connections than the limit: no more are taken, memory stays, the log says so, and all others get in."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CONNECTIONS_MAX:
        pytest.skip("too few descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for daemon in (chain.api, chain.agent):
        descriptors = usage_of({"it": daemon.pid})["it"][0]
        memory = usage(daemon.pid).rss
        with contextlib.ExitStack() as stack:
            for number in range(CONNECTIONS_MAX + 40):
                if number % 25 == 0:
                    time.sleep(0.02)  # the kernel's own queue holds 50
                connection = stack.enter_context(socket.socket())
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    connection.connect((LOCAL, daemon.port))
            wait_until(lambda daemon=daemon: "which is the limit" in daemon.log(), "it is full", timeout=30)
            # (Those that were closed to make room keep their descriptors until the turn's end.)
            assert usage_of({"it": daemon.pid})["it"][0] <= descriptors + CONNECTIONS_MAX + ACCEPTS_PER_WAKEUP
            # They are dropped as they do not speak TLS, and then it is our turn.
            wait_until(
                lambda: chain.capture("web-0", "--duration", "100ms").status == 0, "captures", timeout=40
            )
            assert usage(daemon.pid).rss < memory + 96 * MIB
        wait_until(
            lambda daemon=daemon, descriptors=descriptors: (
                usage_of({"it": daemon.pid})["it"][0] <= descriptors + 2
            ),
            "all of them are gone",
            timeout=30,
        )


# --- filters that cost ----------------------------------------------------------------


class Pinger:
    """A peer of the agent's that measures how long its answers take."""

    def __init__(self, chain: Chain) -> None:
        credentials = chain.authority.issue_api("pinger")
        context = ssl.create_default_context(cafile=str(chain.authority.certificate_path))
        context.check_hostname = False
        context.load_cert_chain(credentials.certificate, credentials.private_key)
        plain = socket.create_connection((LOCAL, chain.agent.port), 60)
        self._connection = context.wrap_socket(plain)
        self._session = Caller()
        self.longest = 0.0

    def run(self, until: Callable[[], bool]) -> None:
        """Ask again and again, less than the time that it has for START."""
        self._connection.sendall(self._session.hello(Hello(COMPATIBILITY_LEVEL, "api", "p", "1", 0)))
        while not until():
            began = time.monotonic()
            self._connection.sendall(self._session.ping(0))
            self._await_pong()
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.02)
        self._connection.close()

    def _await_pong(self) -> None:
        while True:
            for event in self._session.receive(self._connection.recv(65536)):
                if isinstance(event.message, Pong):
                    return


SLOW = " or ".join(f"portrange {number}-{number + 5}" for number in range(220))


@pytest.mark.parametrize("text", [SLOW, SLOW + " and and"], ids=["valid", "broken at its end"])
def test_a_filter_that_takes_long_to_compile(chain: Chain, text: str) -> None:
    """A filter that takes long to compile is refused with the reason, while the agent answers others."""
    assert len(text) <= FILTER_MAX
    pinger = Pinger(chain)
    client = chain.begin("web-0", "--filter", text)
    pinger.run(lambda: client.process.poll() is not None)
    result = client.wait()
    assert result.status == 1
    words = "takes too long to compile" if text == SLOW else "syntax error"
    assert words in json.dumps(result.events) + result.stderr
    # Compiled in the agent itself it stands still for 5 s and more.
    assert pinger.longest < 2.5


@pytest.mark.parametrize("text", ["(" * 2400 + "ip" + ")" * 2400, "!" * 4900 + "ip", "-" * 4000 + "1 = 1"])
@pytest.mark.long
def test_filters_that_are_nested_deeply(chain: Chain, text: str) -> None:
    """An agent survives deeply nested filters, whatever libpcap makes of them."""
    pid = chain.agent.pid
    chain.capture("web-0", "--duration", "100ms", "--filter", text)
    assert chain.capture("web-0", "--duration", "100ms").status == 0
    assert chain.agent.pid == pid
    assert chain.agent.process.poll() is None


# --- names and words --------------------------------------------------------------------

ESCAPE = "\x1b]0;owned\x07\r\n\x9b31m"


@pytest.mark.parametrize(
    "query",
    [
        {"target": f"web-0{ESCAPE}"},
        {"target": "web-0", "device": f"eth0{ESCAPE}"},
        {"target": "web-0", "filter": f"udp{ESCAPE}"},
        {"target": "web-0", f"x{ESCAPE}": "1"},
        {"appid": f"g{ESCAPE}", "type": ESCAPE},
    ],
    ids=["target", "interface", "filter", "argument", "app"],
)
def test_control_characters_in_a_request(chain: Chain, query: dict[str, str]) -> None:
    """A request with control characters is refused, and neither the answer nor any log holds them raw."""
    from urllib.parse import urlencode

    done = chain.curl(urlencode(query), "--include", "--header", f"X-Vcap-Request-Id: {chr(0x9B)}31m")
    assert done.stdout.startswith(b"HTTP/1.1 400"), done.stdout
    body = done.stdout.partition(b"\r\n\r\n")[2]
    for said in (body, chain.api.log_path.read_bytes(), chain.agent.log_path.read_bytes()):
        assert not [byte for byte in said if byte < 32 and byte != 10]
        assert b"\xc2\x9b" not in said


def test_words_that_grow_when_they_are_passed_on(chain: Chain) -> None:
    """An agent's notice of almost 64 KiB that is not ASCII is passed on, shortened; the capture goes on."""
    notice = b'{"type":"CONGESTED","origin":"x","message":"' + "€".encode() * 20_000 + b'"}'

    def script(peer: Conversation) -> None:
        peer.open()
        peer.send(struct.pack("!IBBH", len(notice), 6, 0, 0) + notice)
        peer.wait()

    port = chain.api.config["static"]["targets"]["nobody"]["port"]
    with HostileAgent(chain.authority.issue_agent("wordy"), script, port):
        result = chain.capture("nobody", "web-0", "--duration", "1s")
    said = [notice["message"] for notice in result.notices]
    assert [words for words in said if words.startswith("€" * 1000) and len(words) < 5000]
    assert result.sources["web-0:eth0"]["written"] is not None
    assert not [line for line in chain.api.records() if "failure" in line]
