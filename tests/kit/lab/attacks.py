"""Attacks on an api and an agent, without and with a token, as fast as one process can.

::

    python -m tests.kit.lab.attacks NAME SECONDS PLACE

PLACE is a `Place` as JSON.  The program prints how often it attacked.  `ATTACKS` lists the names.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Callable, Iterator, Optional

from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, Ping
from wsproto.events import Request as Upgrade

from pcapd import COMPATIBILITY_LEVEL
from pcapd.wire import Caller, Hello, Request

LOCAL = "127.0.0.1"
#: Connections that are held at once: more than a listener takes.
MANY = 1100
#: Targets of one agent, as an app with many instances on a cell has them.
CROWD = tuple(f"crowd-{number}" for number in range(70))
#: Filters that libpcap takes seconds for, and some milliseconds.
SLOW = " or ".join(f"portrange {number}-{number + 5}" for number in range(220))
LONG = " or ".join(f"portrange {number}-{number + 5}" for number in range(60))


@dataclass(frozen=True)
class Place:
    """What is attacked, and with which credentials.

    Attributes:
        api, agent: TCP ports on 127.0.0.1.
        ca: File of the CA.
        token: Of a user; the attacks without a token do not use it.
        target: That this user may capture; and all of `CROWD`.
        certificate, private_key: Issued by the CA, for a name that no agent allows.
    """

    api: int
    agent: int
    ca: str
    token: str
    target: str
    certificate: str
    private_key: str


class Attacker:
    """Runs one attack for a number of seconds."""

    def __init__(self, place: Place, seconds: float) -> None:
        self.place = place
        self.until = time.monotonic() + seconds
        self.times = 0
        self._context = ssl.create_default_context(cafile=place.ca)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until

    def rounds(self) -> Iterator[None]:
        """Again and again, whatever the other end does to a connection."""
        while not self.over:
            self.times += 1
            yield

    def tls(self, *, window: Optional[int] = None) -> ssl.SSLSocket:
        """A connection to the api; a small window makes it notice at once that nobody reads."""
        sock = socket.socket()
        if window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.settimeout(2)
        sock.connect((LOCAL, self.place.api))
        return self._context.wrap_socket(sock, server_hostname=LOCAL)


def ask(path: str, token: str = "", method: str = "GET") -> bytes:
    bearer = f"Authorization: bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: api\r\n{bearer}\r\n".encode()


# --- without a token ------------------------------------------------------------------


def pipelined(attacker: Attacker) -> None:
    """Thousands of requests in a piece, and no answer is read."""
    piece = ask("/health") * 4000
    held: list[socket.socket] = []
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            connection = attacker.tls(window=4096)
            held.append(connection)
            connection.settimeout(0.2)
            while not attacker.over:
                connection.sendall(piece)
        del held[:-64]


def downloads(attacker: Attacker) -> None:
    """As many connections as there can be ask for a large file, and read nothing of it."""
    held: list[socket.socket] = []
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            connection = attacker.tls(window=4096)
            connection.sendall(ask("/cli/client"))
            held.append(connection)
        del held[:-MANY]


def connections(port: Callable[[Place], int]) -> Callable[[Attacker], None]:
    def attack(attacker: Attacker) -> None:
        """As many connections as there can be, and nothing is said."""
        held: list[socket.socket] = []
        for _ in attacker.rounds():
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((LOCAL, port(attacker.place)), 2))
            del held[:-MANY]

    return attack


def handshakes(attacker: Attacker) -> None:
    """As many TLS connections as there can be, and nothing is asked."""
    held: list[socket.socket] = []
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            held.append(attacker.tls())
        del held[:-MANY]


def strangers_at_the_agent(attacker: Attacker) -> None:
    """Certificates of the right CA with a name that is not let in."""
    context = ssl.create_default_context(cafile=attacker.place.ca)
    context.check_hostname = False
    context.load_cert_chain(attacker.place.certificate, attacker.place.private_key)
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            with socket.create_connection((LOCAL, attacker.place.agent), 2) as plain:
                with context.wrap_socket(plain) as connection:
                    connection.recv(1)


def asked(*requests: Callable[[Place], bytes]) -> Callable[[Attacker], None]:
    def attack(attacker: Attacker) -> None:
        """Requests that are refused, one after the other."""
        for _ in attacker.rounds():
            with contextlib.suppress(OSError):
                connection = attacker.tls()
                while not attacker.over:
                    for request in requests:
                        connection.sendall(request(attacker.place))
                        connection.recv(65536)
                        attacker.times += 1

    return attack


def idle_websockets(attacker: Attacker) -> None:
    """As many WebSockets as there can be, without START."""
    held: list[socket.socket] = []
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            held.append(Stream(attacker).connection)
        del held[:-MANY]


# --- with a token ---------------------------------------------------------------------


class Stream:
    """A WebSocket to the api."""

    def __init__(self, attacker: Attacker, window: int = 65536) -> None:
        self.place = attacker.place
        self.connection = attacker.tls(window=window)
        self.end = WSConnection(ConnectionType.CLIENT)
        self.connection.sendall(self.end.send(Upgrade("api", "/v1/stream")))
        self.end.receive_data(self.connection.recv(65536))
        list(self.end.events())
        self.session = Caller()

    def say(self, *frames: bytes) -> None:
        self.connection.sendall(self.end.send(BytesMessage(b"".join(frames))))

    def start(self, targets: tuple[str, ...] = (), filter: str = "") -> None:
        """Greet and begin a capture."""
        self.say(self.session.hello(Hello(COMPATIBILITY_LEVEL, "client", "attacker", "1", 0)))
        self.session._state = type(self.session._state).READY  # whatever the api says
        wanted = Request(targets or (self.place.target,), filter=filter, token=self.place.token)
        self.say(self.session.start(wanted))


def websocket_pings(attacker: Attacker) -> None:
    """PINGs of the WebSocket, whose PONGs nobody reads."""
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            stream = Stream(attacker, window=4096)
            stream.start()
            piece = stream.end.send(Ping(b"x" * 125)) * 1000
            while not attacker.over:
                stream.connection.sendall(piece)


def frame_pings(attacker: Attacker) -> None:
    """PINGs of our own protocol, whose PONGs nobody reads."""
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            stream = Stream(attacker, window=4096)
            stream.start()
            pings = stream.session.ping(1) * 1000
            while not attacker.over:
                stream.say(pings)


def left_openings(attacker: Attacker) -> None:
    """Captures with a filter that takes long to compile; the client leaves meanwhile."""
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            stream = Stream(attacker)
            stream.start(filter=SLOW)
            time.sleep(0.06)
            stream.connection.close()


def crowds(attacker: Attacker) -> None:
    """Captures of many targets of one agent, each with a long filter."""
    for _ in attacker.rounds():
        with contextlib.suppress(OSError):
            stream = Stream(attacker)
            stream.start(CROWD, LONG)
            time.sleep(1.0)
            stream.connection.close()


ATTACKS: dict[str, Callable[[Attacker], None]] = {
    "pipelined answers": pipelined,
    "downloads": downloads,
    "connections to the api": connections(lambda place: place.api),
    "connections to the agent": connections(lambda place: place.agent),
    "handshakes": handshakes,
    "strangers at the agent": strangers_at_the_agent,
    "no token": asked(lambda place: ask(f"/capture?target={place.target}")),
    "bad tokens": asked(lambda place: ask(f"/capture?target={place.target}", os.urandom(16).hex())),
    "no captures": asked(lambda place: ask(f"/capture?target={place.target}", place.token, "HEAD")),
    "idle WebSockets": idle_websockets,
    "WebSocket PINGs": websocket_pings,
    "frame PINGs": frame_pings,
    "openings that are left": left_openings,
    "many targets of an agent": crowds,
}


def main(name: str, seconds: str, place: str) -> None:
    """Run one of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attacker = Attacker(Place(**json.loads(place)), float(seconds))
    ATTACKS[name](attacker)
    print(attacker.times)


if __name__ == "__main__":
    main(*sys.argv[1:])
