"""Scenarios whose connections fail."""

from __future__ import annotations

import contextlib
import random
import socket
import time

from tests.hosts.scenarios.play import OK, play, some_gets
from tests.hosts.scenarios.stage import (
    SERVER,
    Stage,
    connection,
)  # fmt: skip

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
