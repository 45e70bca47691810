"""Scenarios without a fault; nothing may be found."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Optional

from demo.certificates import Authority
from tests.hosts.scenarios.play import LINGER, OK, play, some_gets
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


def tls_contexts(version: Optional[ssl.TLSVersion] = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
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
    tls_scenario(stage, *tls_contexts(version), "app.example", draw.randint(2, 6))


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
