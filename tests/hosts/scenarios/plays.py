"""The scenarios: what happens, which findings must come, and which may come besides.

Every other finding above `note` is a false one.  Parameters are drawn anew for each run.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from demo.certificates import Authority
from tests.hosts.scenarios.files import named, read, shift
from tests.hosts.scenarios.stage import (
    SERVER,
    Stage,
    answer,
    connection,
    get,
    read_answer,
    read_head,
    web,
)  # fmt: skip

LINGER = struct.pack("ii", 1, 0)
Rules = list[dict[str, Any]]


@dataclass(frozen=True)
class Play:
    """A scenario.

    Attributes:
        must: Kinds that come with both places.
        may: Kinds that may come besides, because they are true too.
        client, server: Kinds that come with only that place.
    """

    name: str
    run: Callable[[Stage, random.Random], None]
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    server: frozenset[str] = frozenset()
    faults: Callable[[random.Random], Rules] = lambda draw: []
    after: Callable[[Stage, random.Random], None] = lambda stage, draw: None


PLAYS: dict[str, Play] = {}


def play(
    must: str = "", *, may: str = "", client: Optional[str] = None, server: str = "",
    faults: Callable[[random.Random], Rules] = lambda draw: [],
    after: Callable[[Stage, random.Random], None] = lambda stage, draw: None,
) -> Callable[[Callable[[Stage, random.Random], None]], Callable[[Stage, random.Random], None]]:  # fmt: skip
    """Register one."""

    def register(function: Callable[[Stage, random.Random], None]) -> Callable[[Stage, random.Random], None]:
        alone = must if client is None else client
        sets = (frozenset(words.split()) for words in (must, may, alone, server))
        PLAYS[function.__name__] = Play(function.__name__, function, *sets, faults, after)
        return function

    return register


OK = web(lambda number, head: answer())


def some_gets(count: int, port: int = 8080) -> Callable[[], None]:
    """Requests one after the other on one connection."""

    def run() -> None:
        with connection(port) as one:
            for number in range(count):
                get(one, f"/items/{number}")

    return run


# --- healthy ---------------------------------------------------------------------


@play()
def healthy_keep_alive(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(*[some_gets(draw.randint(100, 300)) for _ in range(4)])


@play()
def healthy_many_connections(stage: Stage, draw: random.Random) -> None:
    stage.serve(web(lambda number, head: answer(extra="Connection: close\r\n") if number == 0 else None))

    def run() -> None:
        for _ in range(draw.randint(50, 100)):
            with connection() as one:
                get(one)

    stage.ask(run)


@play()
def healthy_download(stage: Stage, draw: random.Random) -> None:
    size = draw.randint(3_000_000, 8_000_000)
    stage.serve(web(lambda number, head: answer(body=bytes(size))))
    stage.ask(some_gets(2))


@play()
def healthy_upload(stage: Stage, draw: random.Random) -> None:
    size = draw.randint(2_000_000, 5_000_000)

    def handle(one: socket.socket) -> None:
        read_answer(one)  # the head has a length as that of an answer has
        one.sendall(answer(201))
        read_head(one)

    stage.serve(handle)

    def run() -> None:
        with connection() as one:
            one.sendall(f"POST /files HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode() + bytes(size))
            read_answer(one)

    stage.ask(run)


@play(faults=lambda draw: [{"do": "delay", "ms": draw.uniform(10, 80), "name": "far"}])
def healthy_far_away(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(some_gets(10), some_gets(5))


@play()
def healthy_websocket(stage: Stage, draw: random.Random) -> None:
    def handle(one: socket.socket) -> None:
        read_head(one)
        one.sendall(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := one.recv(100):
            one.sendall(data)

    stage.serve(handle)

    def run() -> None:
        with connection(timeout=10) as one:
            one.sendall(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            read_head(one)
            for idle in (0.1, draw.uniform(4.2, 5)):
                time.sleep(idle)
                one.sendall(b"\x81\x05hello")
                one.recv(100)

    stage.ask(run)


@play()
def healthy_chunks(stage: Stage, draw: random.Random) -> None:
    def reply(number: int, head: bytes) -> Optional[bytes]:
        parts = [bytes(draw.randint(1, 5000)) for _ in range(draw.randint(1, 8))]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body

    stage.serve(web(reply))

    def run() -> None:
        with connection() as one:
            for _ in range(10):
                one.sendall(b"GET /stream HTTP/1.1\r\n\r\n")
                data = b""
                while not data.endswith(b"0\r\n\r\n"):
                    data += one.recv(65536)

    stage.ask(run)


@play()
def healthy_pipelined_and_head(stage: Stage, draw: random.Random) -> None:
    count = draw.randint(3, 12)

    def handle(one: socket.socket) -> None:
        data = b""
        while data.count(b"\r\n\r\n") < count + 2:
            more = one.recv(65536)
            if not more:
                return
            data += more
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
        one.sendall(head + b"HTTP/1.1 204 None\r\n\r\n" + b"HTTP/1.1 103 Early\r\n\r\n" + answer() * count)
        read_head(one)

    stage.serve(handle)

    def run() -> None:
        with connection() as one:
            wanted = (
                b"HEAD /h HTTP/1.1\r\n\r\nDELETE /d HTTP/1.1\r\n\r\n" + b"GET /p HTTP/1.1\r\n\r\n" * count
            )
            one.sendall(wanted)
            data = b""
            while data.count(b"ok") < count:
                data += one.recv(65536)

    stage.ask(run)


def dns_answer(question: bytes, code: int = 0, count: int = 1) -> bytes:
    """An answer with an address, or with none."""
    end = question.index(b"\0", 12) + 5
    head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 0 if code else count, 0, 0)
    record = b"" if code else (b"\xc0\x0c" + struct.pack("!HHIH4s", 1, 1, 60, 4, bytes(4))) * count
    return head + question[12:end] + record


def dns_question(name: str, number: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def lookups(names: list[str], timeout: float = 1, attempts: int = 1) -> Callable[[], None]:
    """Ask for names, each from a port of its own."""

    def run() -> None:
        for number, name in enumerate(names):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.settimeout(timeout)
                one.connect((SERVER, 53))
                for _ in range(attempts):
                    with contextlib.suppress(OSError):
                        one.send(dns_question(name, number + 1))
                        one.recv(4096)
                        break

    return run


@play()
def healthy_dns(stage: Stage, draw: random.Random) -> None:
    def handle(one: socket.socket, data: bytes, peer: Any) -> None:
        # The first domain of a search list does not have it.
        one.sendto(dns_answer(data, 3 if b"\x08internal" in data else 0), peer)

    stage.serve_udp(handle, 53)
    names = [f"host-{draw.randint(0, 99)}.example" for _ in range(10)]
    stage.ask(lookups([name + tail for name in names for tail in (".internal", "")]))


def _tls(version: Optional[ssl.TLSVersion] = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server, and of a client that believes it."""
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(Path(directory))
        issued = authority.issue("app.example", dns=["app.example"])
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(issued.certificate, issued.private_key)
        client = ssl.create_default_context(cafile=str(issued.ca))
    if version is not None:
        server.maximum_version = version
    return server, client


def tls_scenario(
    stage: Stage, server: ssl.SSLContext, client: ssl.SSLContext, name: str, count: int = 2
) -> None:
    def handle(one: socket.socket) -> None:
        with contextlib.suppress(OSError), server.wrap_socket(one, server_side=True) as secured:
            while data := secured.recv(4096):
                secured.sendall(data)

    stage.serve(handle, 8443)

    def run() -> None:
        for _ in range(count):
            with contextlib.suppress(OSError), connection(8443) as one:
                with client.wrap_socket(one, server_hostname=name) as secured:
                    secured.sendall(b"hello")
                    secured.recv(100)

    stage.ask(run)


@play()
def healthy_tls(stage: Stage, draw: random.Random) -> None:
    version = draw.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
    tls_scenario(stage, *_tls(version), "app.example", draw.randint(2, 6))


@play()
def healthy_udp(stage: Stage, draw: random.Random) -> None:
    stage.serve_udp(lambda one, data, peer: one.sendto(data, peer) and None, 9000)

    def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(1)
            one.connect((SERVER, 9000))
            for _ in range(draw.randint(100, 300)):
                one.send(b"x" * draw.randint(1, 1000))
                one.recv(2000)

    stage.ask(run)


@play()
def healthy_close_by_client(stage: Stage, draw: random.Random) -> None:
    """Half of the connections are ended by the client, some while idle."""
    stage.serve(OK)

    def run() -> None:
        with connection() as one:
            get(one)
            one.shutdown(socket.SHUT_WR)
            read_head(one)

    stage.ask(*[run] * 5)


@play()
def healthy_idle_close(stage: Stage, draw: random.Random) -> None:
    """The server closes an idle connection, as servers do, and the client notices."""
    pause = draw.uniform(4.2, 5)

    def handle(one: socket.socket) -> None:
        read_head(one)
        one.sendall(answer())
        time.sleep(pause)

    stage.serve(handle)

    def run() -> None:
        with connection(timeout=8) as one:
            get(one)
            one.recv(10)

    stage.ask(run)


@play()
def healthy_reset_as_goodbye(stage: Stage, draw: random.Random) -> None:
    """Some clients end with a RST when all is done."""
    stage.serve(OK)

    def run() -> None:
        with connection() as one:
            get(one)
            time.sleep(0.1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)

    stage.ask(run, run)


# --- connections ------------------------------------------------------------------


@play("connection_refused", client="connection_refused", server="connection_refused")
def refused(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    port = draw.randint(2000, 7000)

    def run() -> None:
        for _ in range(3):
            with contextlib.suppress(OSError), connection(port):
                pass

    stage.ask(some_gets(3), run)


@play(
    "connection_refused",
    may="lost_between",
    client="connection_refused",
    faults=lambda draw: [{"port": 8081, "way": "up", "do": "reset"}],
)
def refused_between(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.serve(OK, 8081)
    stage.ask(some_gets(3))

    def run() -> None:
        with contextlib.suppress(OSError), connection(8081):
            pass

    stage.ask(run)
    stage.ask(some_gets(3))


@play(
    "connection_unanswered lost_between",
    client="connection_unanswered",
    faults=lambda draw: [{"port": 8081, "way": "up", "do": "drop"}],
)
def unanswered(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(some_gets(3))

    def run() -> None:
        with contextlib.suppress(OSError), connection(8081, timeout=draw.uniform(1.2, 2.5)):
            pass

    stage.ask(run)
    stage.ask(some_gets(3))


@play("connection_unanswered", client="connection_unanswered", server="connection_unanswered")
def unanswered_by_the_host(stage: Stage, draw: random.Random) -> None:
    stage.server.run("ip", "route", "add", "blackhole", "10.98.9.0/24")
    stage.server.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    stage.client.run("ip", "route", "add", "10.98.9.0/24", "via", SERVER)
    stage.serve(OK)

    def run() -> None:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(socket.create_connection(("10.98.9.5", 80), draw.uniform(1.3, 2.5))),
        ):
            pass

    stage.ask(some_gets(3), run)


@play("lost_between", may="connection_unanswered slow_handshake retransmissions", client="connection_unanswered", server="",
      faults=lambda draw: [{"port": 8081, "way": "down", "do": "drop"}])  # fmt: skip
def answers_lost(stage: Stage, draw: random.Random) -> None:
    """The SYN comes, its answer does not."""
    stage.serve(OK)
    stage.serve(OK, 8081)
    stage.ask(some_gets(3))

    def run() -> None:
        with contextlib.suppress(OSError), connection(8081, timeout=draw.uniform(1.3, 2.5)):
            pass

    stage.ask(run)
    stage.ask(some_gets(3))


@play("connection_unreachable", may="lost_between", client="connection_unreachable", faults=lambda draw: [
    {"port": 8081, "way": "up", "do": "unreachable", "code": draw.choice((1, 10, 13))}])  # fmt: skip
def unreachable(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(some_gets(3))

    def run() -> None:
        with contextlib.suppress(OSError), connection(8081, timeout=1):
            pass

    stage.ask(run)
    stage.ask(some_gets(3))


@play("connection_unreachable", client="connection_unreachable", server="connection_unreachable")
def udp_port_closed(stage: Stage, draw: random.Random) -> None:
    def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect((SERVER, draw.randint(4000, 9000)))
            for _ in range(2):
                with contextlib.suppress(OSError):
                    one.send(b"hello")
                time.sleep(0.1)

    stage.ask(run)


@play("slow_handshake", may="lost_between", client="slow_handshake", faults=lambda draw: [
    {"port": 8080, "way": "up", "flags": 2, "first": 1, "do": "drop"}])  # fmt: skip
def syn_lost(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(some_gets(draw.randint(2, 9)))


@play("slow_handshake", client="slow_handshake", faults=lambda draw: [
    {"flags": 18, "do": "delay", "ms": draw.uniform(550, 900)}])  # fmt: skip
def handshake_delayed(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(some_gets(3))


# --- losses -----------------------------------------------------------------------


def transfer(stage: Stage, draw: random.Random, size: int = 1_500_000, up: bool = False) -> None:
    body = bytes(size)
    if up:
        healthy_upload(stage, draw)
    else:
        stage.serve(web(lambda number, head: answer(body=body)))
        stage.ask(some_gets(1), timeout=30)


@play("lost_between", may="retransmissions", client="retransmissions", server="retransmissions", faults=lambda draw: [
    {"way": "down", "larger": 1000, "every": draw.randint(35, 90), "do": "drop"}])  # fmt: skip
def loss_down(stage: Stage, draw: random.Random) -> None:
    transfer(stage, draw)


@play("lost_between", may="retransmissions", client="retransmissions", server="retransmissions", faults=lambda draw: [
    {"way": "up", "larger": 1000, "every": draw.randint(35, 90), "do": "drop"}])  # fmt: skip
def loss_up(stage: Stage, draw: random.Random) -> None:
    transfer(stage, draw, up=True)


@play("lost_between", may="retransmissions slow_handshake http_slow", client="", faults=lambda draw: [
    {"port": 8080, "share": draw.uniform(0.05, 0.12), "do": "drop"}])  # fmt: skip
def loss_both_ways(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(*[some_gets(20) for _ in range(4)])


@play("lost_between", may="retransmissions connection_unanswered http_unanswered reset_in_use dns_unanswered", client="", faults=lambda draw: [
    {"protocol": 17, "way": "up", "every": draw.randint(7, 15), "do": "drop"}])  # fmt: skip
def udp_loss(stage: Stage, draw: random.Random) -> None:
    stage.serve_udp(lambda one, data, peer: one.sendto(data, peer) and None, 9000)

    def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(0.05)
            one.connect((SERVER, 9000))
            for number in range(150):
                one.send(b"%d" % number)
                with contextlib.suppress(OSError):
                    one.recv(2000)
        time.sleep(0.7)

    stage.ask(run)


@play("retransmissions", may="lost_between", client="retransmissions", faults=lambda draw: [
    {"way": "down", "larger": 1000, "every": draw.randint(35, 90), "do": "damage"}])  # fmt: skip
def damaged(stage: Stage, draw: random.Random) -> None:
    """Packets arrive, and the checksum says that they are wrong: both places see them."""
    transfer(stage, draw)


@play(may="retransmissions", faults=lambda draw: [
    {"way": "down", "larger": 1000, "share": 0.02, "do": "delay", "ms": draw.uniform(0.5, 2)}])  # fmt: skip
def reordered(stage: Stage, draw: random.Random) -> None:
    transfer(stage, draw)


@play(faults=lambda draw: [{"share": draw.uniform(0.05, 0.3), "do": "double"}])
def doubled(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(some_gets(100), some_gets(100))


@play("mtu_black_hole", may="lost_between retransmissions http_slow http_unanswered", client="", server="mtu_black_hole", faults=lambda draw: [
    {"way": "down", "larger": draw.randint(1200, 1400), "do": "drop"}])  # fmt: skip
def black_hole_down(stage: Stage, draw: random.Random) -> None:
    stage.serve(web(lambda number, head: answer(body=bytes(20 if number == 0 else 60_000))))

    def run() -> None:
        with connection(timeout=2.5) as one:
            get(one, "/small")
            get(one, "/large")

    stage.ask(run)


@play("mtu_black_hole", may="lost_between retransmissions http_unanswered", client="mtu_black_hole", faults=lambda draw: [
    {"way": "up", "larger": draw.randint(700, 1400), "do": "drop"}])  # fmt: skip
def black_hole_up(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)

    def run() -> None:
        with connection(timeout=2.5) as one:
            get(one)
            one.sendall(b"POST /files HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000))
            read_head(one)

    stage.ask(run)


@play("lost_between", may="retransmissions http_slow", client="", server="")
def shaped(stage: Stage, draw: random.Random) -> None:
    """A token bucket whose queue is too short."""
    rate = f"{draw.randint(10, 30)}mbit"
    stage.middle.run(
        "tc", "qdisc", "add", "dev", "left", "root", "tbf", "rate", rate, "burst", "16kb", "limit", "30kb"
    )  # fmt: skip
    transfer(stage, draw, size=2_500_000)


@play(faults=lambda draw: [{"do": "delay", "ms": draw.uniform(1, 20), "jitter_ms": 0, "name": "late"}])
def healthy_shaped(stage: Stage, draw: random.Random) -> None:
    """A slow line with a long queue only delays."""
    stage.middle.run(
        "tc", "qdisc", "add", "dev", "left", "root", "tbf", "rate", "50mbit", "burst", "64kb", "limit", "4mb"
    )  # fmt: skip
    transfer(stage, draw, size=1_500_000)


# --- ends -------------------------------------------------------------------------


@play("receiver_stalled", may="retransmissions", client="receiver_stalled", server="receiver_stalled")
def client_does_not_read(stage: Stage, draw: random.Random) -> None:
    stage.serve(web(lambda number, head: answer(body=bytes(12_000_000))))
    pause = draw.uniform(1.6, 2.5)

    def run() -> None:
        with connection(timeout=8) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
            one.sendall(b"GET /big HTTP/1.1\r\n\r\n")
            time.sleep(pause)
            read_answer(one)

    stage.ask(run)


@play(
    "receiver_stalled", may="http_slow retransmissions", client="receiver_stalled", server="receiver_stalled"
)
def server_does_not_read(stage: Stage, draw: random.Random) -> None:
    pause = draw.uniform(1.6, 2.5)

    def handle(one: socket.socket) -> None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
        time.sleep(pause)
        read_answer(one)
        one.sendall(answer())
        read_head(one)

    stage.serve(handle)

    def run() -> None:
        with connection(timeout=8) as one:
            one.sendall(b"POST /big HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + bytes(8_000_000))
            read_head(one)

    stage.ask(run)


@play("reset_in_use", may="http_unanswered", client="reset_in_use", server="reset_in_use")
def reset_by_the_server(stage: Stage, draw: random.Random) -> None:
    def handle(one: socket.socket) -> None:
        for _ in range(draw.randint(1, 3)):
            read_head(one)
            one.sendall(answer())
        read_head(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)

    stage.serve(handle)
    stage.ask(*[some_gets(5)] * 3)


@play("reset_in_use", may="http_unanswered receiver_stalled", client="reset_in_use", server="reset_in_use")
def reset_by_the_client(stage: Stage, draw: random.Random) -> None:
    stage.serve(web(lambda number, head: answer(body=bytes(10_000_000))))

    def run() -> None:
        with connection() as one:
            one.sendall(b"GET /big HTTP/1.1\r\n\r\n")
            one.recv(draw.randint(1000, 50_000))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)

    stage.ask(run)


@play("reset_in_use", may="http_unanswered lost_between", client="reset_in_use", faults=lambda draw: [
    {"way": "up", "port": 8080, "with": "/secret", "do": "reset"}])  # fmt: skip
def reset_between(stage: Stage, draw: random.Random) -> None:
    """Something between does not like a request, and says so in the name of the server."""
    stage.serve(OK)

    def run() -> None:
        with connection() as one:
            for _ in range(draw.randint(1, 5)):
                get(one)
            get(one, "/secret")

    stage.ask(run)


@play("http_unanswered", may="reset_in_use", client="http_unanswered", server="http_unanswered")
def closed_without_an_answer(stage: Stage, draw: random.Random) -> None:
    at = draw.randint(1, 4)
    stage.serve(web(lambda number, head: answer() if number < at else None))
    stage.ask(*[some_gets(6)] * 2)


@play("keepalive_race", client="keepalive_race", server="keepalive_race", faults=lambda draw: [
    {"do": "delay", "ms": draw.uniform(20, 60)}])  # fmt: skip
def keepalive_race(stage: Stage, draw: random.Random) -> None:
    pause = draw.uniform(0.5, 1)

    def handle(one: socket.socket) -> None:
        for _ in range(2):
            read_head(one)
            one.sendall(answer())
        one.settimeout(pause)
        with contextlib.suppress(OSError):
            one.recv(100)

    stage.serve(handle)

    def run() -> None:
        with connection() as one:
            for _ in range(2):
                get(one)
            # The answer took one way back; the server closes `pause` after it was sent.
            time.sleep(pause - 0.01)
            with contextlib.suppress(OSError):
                get(one, "/late")

    stage.ask(run)


@play("idle_cut", may="http_unanswered lost_between", client="idle_cut", faults=lambda draw: [
    {"port": 8080, "after": 4.0, "way": "up", "do": "reset"}])  # fmt: skip
def idle_reset(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)

    def run() -> None:
        with connection(timeout=3) as one:
            get(one)
            time.sleep(draw.uniform(4.5, 5.5))
            get(one, "/later")

    stage.ask(run)


@play("idle_cut", may="http_unanswered lost_between retransmissions", client="idle_cut", faults=lambda draw: [
    {"port": 8080, "after": 4.0, "do": "drop"}])  # fmt: skip
def idle_silence(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)

    def run() -> None:
        with connection(timeout=draw.uniform(3.2, 4)) as one:
            get(one)
            time.sleep(draw.uniform(4.5, 5.5))
            get(one, "/later")

    stage.ask(run)


# --- DNS ---------------------------------------------------------------------------


def dns_play(
    stage: Stage, draw: random.Random, handle: Callable[..., None], count: int = 3, **more: Any
) -> None:
    stage.serve_udp(handle, 53)
    stage.ask(lookups([f"db-{draw.randint(0, 999)}.example.com" for _ in range(count)], **more))


@play("dns_failed", client="dns_failed", server="dns_failed")
def dns_nxdomain(stage: Stage, draw: random.Random) -> None:
    dns_play(stage, draw, lambda one, data, peer: one.sendto(dns_answer(data, 3), peer) and None)


@play("dns_failed", client="dns_failed", server="dns_failed")
def dns_servfail(stage: Stage, draw: random.Random) -> None:
    dns_play(
        stage, draw, lambda one, data, peer: one.sendto(dns_answer(data, draw.choice((2, 5))), peer) and None
    )


@play("dns_unanswered", client="dns_unanswered", server="dns_unanswered")
def dns_silent(stage: Stage, draw: random.Random) -> None:
    dns_play(stage, draw, lambda one, data, peer: None, 1, timeout=draw.uniform(0.6, 1), attempts=2)


@play("dns_slow", client="dns_slow", server="dns_slow")
def dns_slow(stage: Stage, draw: random.Random) -> None:
    def handle(one: socket.socket, data: bytes, peer: Any) -> None:
        time.sleep(draw.uniform(0.6, 1.2))
        one.sendto(dns_answer(data), peer)

    dns_play(stage, draw, handle, 2, timeout=3)


# --- TLS ---------------------------------------------------------------------------


@play("tls_failed", may="reset_in_use", client="tls_failed", server="tls_failed")
def tls_wrong_name(stage: Stage, draw: random.Random) -> None:
    version = draw.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
    tls_scenario(stage, *_tls(version), "other.example")


@play("tls_failed", may="reset_in_use", client="tls_failed", server="tls_failed")
def tls_versions(stage: Stage, draw: random.Random) -> None:
    server, client = _tls(ssl.TLSVersion.TLSv1_2)
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    tls_scenario(stage, server, client, "app.example")


@play("tls_failed", may="reset_in_use", client="tls_failed", server="tls_failed")
def tls_closed(stage: Stage, draw: random.Random) -> None:
    """The server closes as soon as the client says hello."""

    def handle(one: socket.socket) -> None:
        one.recv(4096)

    stage.serve(handle, 8443)
    _, client = _tls()

    def run() -> None:
        with contextlib.suppress(OSError), connection(8443) as one:
            client.wrap_socket(one, server_hostname="app.example")

    stage.ask(run)


# --- HTTP --------------------------------------------------------------------------


@play("http_errors", client="http_errors", server="http_errors")
def http_errors(stage: Stage, draw: random.Random) -> None:
    every, status = draw.randint(2, 9), draw.choice((500, 502, 503, 504))
    stage.serve(web(lambda number, head: answer(status if number % every == 1 else 200)))
    stage.ask(*[some_gets(20)] * 3)


@play("http_slow", client="http_slow", server="http_slow")
def http_slow(stage: Stage, draw: random.Random) -> None:
    pause = draw.uniform(1.1, 2)

    def reply(number: int, head: bytes) -> bytes:
        if number == 2:
            time.sleep(pause)
        return answer()

    stage.serve(web(reply))
    stage.ask(*[some_gets(4)] * 2)


@play("http_unanswered", client="http_unanswered", server="http_unanswered")
def http_hangs(stage: Stage, draw: random.Random) -> None:
    pause = draw.uniform(1.2, 2)

    def handle(one: socket.socket) -> None:
        read_head(one)
        time.sleep(pause + 1)

    stage.serve(handle)

    def run() -> None:
        with connection(timeout=pause) as one:
            get(one)

    stage.ask(run)


# --- some together -----------------------------------------------------------------


@play("lost_between http_errors dns_failed connection_refused", may="retransmissions http_slow slow_handshake",
      client="http_errors dns_failed connection_refused", faults=lambda draw: [
    {"port": 8080, "larger": 900, "share": draw.uniform(0.02, 0.05), "do": "drop"}])  # fmt: skip
def a_bad_day(stage: Stage, draw: random.Random) -> None:
    stage.serve(web(lambda number, head: answer(500 if number % 4 == 1 else 200, bytes(200_000))))
    stage.serve_udp(lambda one, data, peer: one.sendto(dns_answer(data, 3), peer) and None, 53)

    def run() -> None:
        with contextlib.suppress(OSError), connection(7777):
            pass

    stage.ask(some_gets(6), run, lookups(["gone.example.com"]), timeout=30)


# --- the capture itself ------------------------------------------------------------


def clocks_apart(stage: Stage, draw: random.Random) -> None:
    offset = draw.choice((-1, 1)) * draw.choice(
        (draw.randint(2000, 50_000), draw.randint(1_100_000, 5_000_000))
    )
    shift(stage.files[1], offset, draw.uniform(-50e-6, 50e-6))


@play(may="clocks_apart", after=clocks_apart)
def healthy_with_clocks_apart(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)

    def run() -> None:
        with connection() as one:
            for _ in range(40):
                get(one)
                time.sleep(0.03)

    stage.ask(run)


@play("lost_between", may="clocks_apart retransmissions slow_handshake http_slow", client="", after=clocks_apart,
      faults=lambda draw: [{"port": 8080, "every": draw.randint(12, 25), "do": "drop"}])  # fmt: skip
def loss_with_clocks_apart(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(*[some_gets(20) for _ in range(3)])


def one_file(stage: Stage, draw: random.Random, lose: float = 0.0) -> None:
    to = stage.files[0].with_name("both.pcapng")
    named(list(zip(("web-0:eth0", "web-1:eth0"), stage.files)), to, lose=lose, draw=draw)
    stage.looks = {"both": [to]}


@play(after=one_file)
def healthy_in_one_file(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)
    stage.ask(*[some_gets(50) for _ in range(4)])


@play("capture_incomplete", after=lambda stage, draw: one_file(stage, draw, draw.uniform(0.02, 0.2)))
def capture_loses(stage: Stage, draw: random.Random) -> None:
    """What the capture lost at one place is not blamed on the network."""
    stage.serve(OK)
    stage.serve(web(lambda number, head: answer(body=bytes(100_000))), 8081)
    stage.ask(*[some_gets(60) for _ in range(4)], some_gets(5, 8081))


@play("connection_refused lost_between", may="retransmissions slow_handshake http_slow", after=one_file, faults=lambda draw: [
    {"port": 8080, "every": draw.randint(12, 25), "do": "drop"}])  # fmt: skip
def trouble_in_one_file(stage: Stage, draw: random.Random) -> None:
    stage.serve(OK)

    def run() -> None:
        with contextlib.suppress(OSError), connection(7777):
            pass

    stage.ask(*[some_gets(20) for _ in range(3)], run)


def lost_silently(stage: Stage, draw: random.Random) -> None:
    """Tcpdump's files have no counters."""
    packets = list(read(stage.files[1]))
    kept = [packet for packet in packets if draw.random() > 0.04]
    head = stage.files[1].read_bytes()[:24]
    records = (struct.pack("<IIII", *divmod(us, 1_000_000), len(data), len(data)) + data for us, data in kept)
    stage.files[1].write_bytes(head + b"".join(records))


@play("capture_incomplete", client="", server="capture_incomplete", after=lost_silently)
def capture_loses_silently(stage: Stage, draw: random.Random) -> None:
    """Nobody says what it lost, and still the network is not blamed."""
    stage.serve(web(lambda number, head: answer(body=bytes(100_000))), 8081)
    stage.ask(some_gets(20, 8081), some_gets(20, 8081))


# --- behind a proxy ----------------------------------------------------------------


def instance_file(stage: Stage, draw: random.Random) -> None:
    to = stage.files[0].with_name("app.pcapng")
    named([("app/0:eth0", stage.files[1]), ("app/0:lo", stage.loopback)], to)
    stage.looks = {"both": [to]}


def proxied(stage: Stage, pause_proxy: float, pause_app: float) -> None:
    """A proxy before the app, as Envoy is in a container."""
    stage.capture_loopback()

    def app(number: int, head: bytes) -> bytes:
        time.sleep(pause_app)
        return answer()

    stage.serve(web(app), 9090, address="127.0.0.1")

    def proxy(number: int, head: bytes) -> bytes:
        time.sleep(pause_proxy)
        with contextlib.closing(socket.create_connection(("127.0.0.1", 9090))) as one:
            one.sendall(head)
            read_answer(one)
        return answer()

    stage.serve(web(proxy))

    def run() -> None:
        with connection(timeout=8) as one:
            for number in range(3):
                get(one, f"/items/{number}", f"X-Vcap-Request-Id: {number}\r\n")

    stage.ask(run)


@play(after=instance_file)
def healthy_behind_a_proxy(stage: Stage, draw: random.Random) -> None:
    proxied(stage, 0.001, 0.005)


@play("http_slow", after=instance_file)
def slow_app_behind_a_proxy(stage: Stage, draw: random.Random) -> None:
    proxied(stage, 0.001, draw.uniform(1.1, 1.5))


@play("http_slow", after=instance_file)
def slow_proxy(stage: Stage, draw: random.Random) -> None:
    proxied(stage, draw.uniform(1.1, 1.5), 0.002)


@play("reset_in_use", may="http_unanswered", client="reset_in_use", server="reset_in_use")
def killed(stage: Stage, draw: random.Random) -> None:
    """The server's process is killed while it answers; its kernel resets what it has."""
    server = stage.server.popen(
        sys.executable, "-c",
        "import socket,time\n"
        f"s=socket.create_server(('{SERVER}',8080))\n"
        "print('ready',flush=True)\n"
        "c=s.accept()[0]\n"
        "c.recv(10)\n"  # not all of the request: what is unread makes the kernel send a RST
        "c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 999999\\r\\n\\r\\n'+bytes(20000))\n"
        "time.sleep(60)\n",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    server.stdout.readline()

    def run() -> None:
        with connection() as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            one.recv(100)
            time.sleep(draw.uniform(0.1, 0.4))
            server.kill()
            while one.recv(65536):
                pass

    stage.ask(run)
