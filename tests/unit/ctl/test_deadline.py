"""Servers that are slow: one deadline for each exchange before a capture, over real sockets and TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from pcapd.ctl.login import fetch
from pcapd.ctl.options import Access, Trust
from pcapd.ctl.stream import connection as connection_module
from pcapd.ctl.stream import health as status
from pcapd.ctl.stream.connection import Connection
from pcapd.ctl.stream.deadline import Deadline
from pcapd.errors import PcapdError
from tests.kit.doubles.stream_api import Client, StreamApi

#: Seconds instead of 30.
SHORT = 0.6
#: Seconds between two bytes: each comes long before a single read would have had enough.
BEAT = 0.05


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("slow-api", ips=(LOCAL,))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that takes 30 s takes less."""
    for module in (connection_module, fetch, status):
        monkeypatch.setattr(module, "EXCHANGE_TIMEOUT", SHORT)


def upgrade(api: str, credentials: Credentials) -> object:
    """Begin a capture."""
    return Connection(Access(api, "token", credentials.ca))


def health(api: str, credentials: Credentials) -> object:
    """``pcapctl status``."""
    return status.ask(Access(api, None, credentials.ca))


def login(api: str, credentials: Credentials) -> object:
    """Any question to Cloud Controller, UAA or a director."""
    return fetch.Client(credentials.ca, Trust.GIVEN).get(f"{api}/v3", "token")


ASKS: Dict[str, Callable[[str, Credentials], object]] = {"upgrade": upgrade, "status": health, "login": login}
BODY = json.dumps({"errors": [{"code": "forbidden", "title": "not for you"}], "healthy": True}).encode()
HEAD = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(BODY)
#: What comes at once, and then byte by byte.
TRICKLES = {
    "status line": (b"", b"HTTP/1.1 " + b"2" * 10_000),
    "header": (b"HTTP/1.1 403 Forbidden\r\nX: ", b"y" * 10_000),
    "body": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10000\r\n\r\n", b" " * 10_000),
    "body without a length": (b"HTTP/1.1 403 Forbidden\r\n\r\n", b" " * 10_000),
    "nothing": (b"", b""),
}


@contextlib.contextmanager
def trickling(credentials: Credentials, at_once: bytes, then: bytes) -> Iterator[str]:
    """A server that answers so; its URL."""

    def script(client: Client) -> None:
        client.head()
        client.raw(at_once)
        for byte in then:
            time.sleep(BEAT)
            client.raw(bytes([byte]))
        client._socket.recv(1)

    with StreamApi(credentials, script) as api:
        yield api.url


@pytest.mark.parametrize("trickle", TRICKLES)
@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.long(
    but=(
        "upgrade-",
        "login-header",
    )
)
def test_an_answer_that_never_ends(ask: str, trickle: str, credentials: Credentials) -> None:
    """An answer that trickles without an end is left at its deadline with a message."""
    began = time.monotonic()
    with trickling(credentials, *TRICKLES[trickle]) as api, pytest.raises(PcapdError) as failed:
        ASKS[ask](api, credentials)
    assert SHORT <= time.monotonic() - began < SHORT + 2.0
    # A refusal is one already without its text.
    told = "HTTP status 403" if ask == "upgrade" and "body" in trickle else f"did not answer within {SHORT} s"
    assert told in str(failed.value)


@pytest.mark.parametrize("ask", ASKS)
def test_a_slow_answer_that_ends(ask: str, credentials: Credentials) -> None:
    """The control: bytes as slow as those are waited for, as long as the whole comes in time."""
    with trickling(credentials, HEAD + BODY[:-5], BODY[-5:]) as api:
        if ask == "upgrade":
            with pytest.raises(PcapdError, match="not for you"):
                upgrade(api, credentials)
        else:
            ASKS[ask](api, credentials)


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer is waited for until the deadline."""
    answer = threading.Event()
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT", SHORT)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(20))
    try:
        with pytest.raises(PcapdError, match=r"cannot connect to pcap\.example\.com port 443: no answer"):
            connection_module.dial(Access("pcap.example.com", None), Deadline(20.0))
    finally:
        answer.set()


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that does not answer leaves time for the next one of the same name."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server((LOCAL, 0), backlog=1))
        for _ in range(4):  # its queue is full, and the kernel answers nobody any more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        good = stack.enter_context(socket.create_server((LOCAL, 0)))
        places = [server.getsockname() for server in (silent, good)]
        found: List[Tuple[Any, ...]] = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        connection = connection_module.dial(Access("http://pcap.example.com", None), Deadline(1.0))
        assert connection.getpeername() == places[1]
        connection.close()
