"""Where a token may be sent; what comes from there, and what does not come."""

from __future__ import annotations

import base64
import errno
import hashlib
import re
import select
import ssl
import threading
from typing import Callable, Tuple, Union

import pytest

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from pcapd.ctl.options import Access, UsageProblem
from pcapd.ctl.stream import connection as connection_module
from pcapd.ctl.stream.connection import ApiUnreachable, Connection, address_of
from pcapd.errors import Forbidden, RemoteProtocolError
from pcapd.limits import CONNECT_TIMEOUT
from tests.kit.doubles.stream_api import Client, StreamApi


@pytest.mark.parametrize(
    ("api", "address"),
    [
        ("https://pcap.example.com", (True, "pcap.example.com", 443, "")),
        ("pcap.example.com", (True, "pcap.example.com", 443, "")),
        ("pcap.example.com:8080/", (True, "pcap.example.com", 8080, "")),
        ("https://[2001:db8::1]:99/behind/a/router/", (True, "2001:db8::1", 99, "/behind/a/router")),
        ("http://localhost:1", (False, "localhost", 1, "")),
        ("http://127.0.0.1", (False, "127.0.0.1", 80, "")),
        ("http://[::1]", (False, "::1", 80, "")),
    ],
)
def test_an_api(api: str, address: Tuple[bool, str, int, str]) -> None:
    """An api's URL gives TLS, host, port and path."""
    assert address_of(api) == address


@pytest.mark.parametrize(
    "api",
    [
        "",
        "https://",
        "https://:443",
        "ftp://pcap.example.com",
        "https://user@pcap.example.com",
        "https://user:word@pcap.example.com",
        "https://:word@pcap.example.com",
        "https://pcap.example.com?x",
        "https://pcap.example.com#x",
        "https://pcap.example.com:99999",
        "https://pcap.example.com:x",
    ],
)
def test_no_api(api: str) -> None:
    """An api address with a part that would be ignored is refused."""
    with pytest.raises(UsageProblem, match=r"not the URL of an api|no valid port"):
        address_of(api)


@pytest.mark.parametrize(
    "host", ["pcap.example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1"]
)
def test_in_clear_only_to_this_machine(host: str) -> None:
    """Plain HTTP is allowed to this machine, or without a token."""
    with pytest.raises(UsageProblem, match="not sent in clear"):
        address_of(f"http://{host}")
    assert address_of(f"http://{host}", secret=False) == (False, host, 80, "")


# --- the connection itself ------------------------------------------------------------

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


class Peer:
    """A socket of ours whose other end says what the test has written down, piece by piece.

    Args:
        said: Bytes, or an error that is raised instead; `ACCEPT` for the answer that the
            request asks for.  Who asks for more than there is reads on when it should not.
    """

    def __init__(self, *said: Union[bytes, OSError]) -> None:
        self.said = list(said)
        self.heard = b""
        self.takes = True
        self.closed = False

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def send(self, data: bytes) -> int:
        if not self.takes:
            raise BlockingIOError
        self.heard += bytes(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        assert self.said, "it reads on"
        said = self.said.pop(0)
        if isinstance(said, OSError):
            raise said
        if said is ACCEPT:
            (key,) = re.findall(rb"Sec-WebSocket-Key: (\S+)", self.heard, re.IGNORECASE)
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            return UPGRADED + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        return said

    def recv_into(self, view: memoryview) -> int:
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.closed = True

    def settimeout(self, seconds: float) -> None: ...

    def setblocking(self, blocking: bool) -> None: ...


ACCEPT = b"accept"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tuple[Connection, Peer]]:
    """Connect to a `Peer` that says these."""

    def connected(*said: Union[bytes, OSError]) -> Tuple[Connection, Peer]:
        peer = Peer(*said)
        monkeypatch.setattr(connection_module, "dial", lambda *_: peer)
        return Connection(Access("https://pcap.example.com", "token")), peer

    return connected


Connect = Callable[..., Tuple[Connection, Peer]]


def test_what_comes_is_given_out(connect: Connect) -> None:
    """Bytes that came before the socket broke are given out before the error."""
    connection, _ = connect(
        ACCEPT,
        b"\x82\x03abc",
        OSError(errno.ETIMEDOUT, "Connection timed out"),
        OSError(errno.ETIMEDOUT, "x"),
    )
    assert [bytes(piece) for piece in connection.read()] == [b"abc"] and not connection.closed
    with pytest.raises(ApiUnreachable, match="the connection to the api was lost: x"):
        connection.read()


def test_an_end_that_is_none_of_the_protocol(connect: Connect) -> None:
    """A connection that is just closed is closed, and not read from for ever."""
    connection, _ = connect(ACCEPT, b"\x82\x03abc", b"")
    assert [bytes(piece) for piece in connection.read()] == [b"abc"] and connection.closed


def test_a_text_message_is_refused(connect: Connect) -> None:
    """A text message is a protocol error."""
    connection, _ = connect(ACCEPT, b"\x81\x03abc", BlockingIOError())
    with pytest.raises(RemoteProtocolError, match="this protocol has no text messages"):
        connection.read()


def test_what_came_with_the_answer_is_read_first(connect: Connect) -> None:
    """Frames that came with the handshake's answer are read before polling."""
    connection, _ = connect(ACCEPT)
    assert not connection.ready
    connection._early = b"\x82\x03abc"
    assert connection.ready and [bytes(piece) for piece in connection.read()] == [b"abc"]
    assert not connection.ready


REFUSAL = b'{"errors":[{"code":"forbidden","title":"not for you","detail":"ask somebody"}]}'
HEAD = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    REFUSAL
)


@pytest.mark.parametrize(
    "said",
    [
        (HEAD + REFUSAL,),
        (HEAD, REFUSAL),
        (HEAD[:20], HEAD[20:] + REFUSAL[:9], REFUSAL[9:]),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD, REFUSAL),
    ],
    ids=["at once", "head and body", "anyhow", "after another"],
)
def test_a_refusal_is_read_to_its_end(said: Tuple[bytes, ...], connect: Connect) -> None:
    """A refusal is read to its end and no further, however it was cut; the token goes nowhere else."""
    with pytest.raises(Forbidden, match="not for you") as refused:
        connect(*said)
    assert refused.value.hint == "ask somebody"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ((b"",), "the api closed the connection"),
        ((b"HTTP/1.1 101", b""), "the api closed the connection"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), "this is not a pcapd api"),
        ((b"HTTP/1.1 101 Upgrade\r\nX: ", b"y" * 32768, b"y" * 32768), "its answer is too long"),
        ((OSError(errno.ECONNRESET, "Connection reset by peer"),), "this is not a pcapd api"),
    ],
    ids=["nothing", "half a line", "another protocol", "no end", "reset"],
)
def test_an_answer_that_is_none(
    said: Tuple[Union[bytes, OSError], ...], words: str, connect: Connect
) -> None:
    """An answer that is not HTTP is reported as what it is, and nothing more is read."""
    with pytest.raises(ApiUnreachable, match=words):
        connect(*said)


def test_an_api_that_does_not_read(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that the api does not read is offered for a bounded time."""
    connection, peer = connect(ACCEPT)
    now = 1000.0

    def wait(*_: object) -> None:
        nonlocal now
        now += 1.0
        assert now < 1000.0 + 2 * CONNECT_TIMEOUT, "it goes on and on"

    monkeypatch.setattr(connection_module.time, "monotonic", lambda: now)
    monkeypatch.setattr(connection_module.select, "select", wait)
    peer.takes = False
    with pytest.raises(ApiUnreachable, match="no longer reads"):
        connection.send(b"frame")
    assert now >= 1000.0 + CONNECT_TIMEOUT


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("connection-api", ips=(LOCAL,))


def test_an_api_that_asks_for_a_certificate(credentials: Credentials) -> None:
    """pcapctl has none to show, which is said so that somebody can do something about it."""
    with StreamApi(credentials, Client.upgrade) as api:
        assert api._context is not None
        api._context.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(ApiUnreachable, match="requires a client certificate"):
            Connection(Access(api.url, "token", credentials.ca))


def test_what_tls_holds_is_ready(credentials: Credentials) -> None:
    """Bytes that TLS holds of a record that was read in part count as ready."""
    said = threading.Event()

    def script(client: Client) -> None:
        client.upgrade()
        assert said.wait(20)
        client.raw(b"\x82\x03abc")
        client.wait()

    with StreamApi(credentials, script) as api:
        connection = Connection(Access(api.url, "token", credentials.ca))
        assert not connection.ready
        said.set()
        select.select([connection._socket], [], [], 20)
        begin = connection._socket.recv(1)
        assert connection.ready
        connection._early = begin
        data = [bytes(piece) for _ in range(2) for piece in connection.read()]
        assert b"".join(data) == b"abc" and not connection.ready
        connection.close()
    assert not api.failures
