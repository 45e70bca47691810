"""Scenarios with faults of the captures themselves, and with a proxy between the places."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time

from tests.hosts.scenarios.files import named, read, shift, write
from tests.hosts.scenarios.play import OK, play, some_gets
from tests.hosts.scenarios.stage import (
    SERVER,
    Stage,
    answer,
    connection,
    get,
    read_answer,
    web,
)  # fmt: skip

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
    write(stage.files[1], [packet for packet in read(stage.files[1]) if draw.random() > 0.04])


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
