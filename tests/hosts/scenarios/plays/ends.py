"""Scenarios whose connections stall, or end badly."""

from __future__ import annotations

import contextlib
import random
import socket
import time

from tests.hosts.scenarios.play import LINGER, OK, play, some_gets
from tests.hosts.scenarios.stage import (
    Stage,
    answer,
    connection,
    get,
    read_answer,
    read_head,
    web,
)  # fmt: skip

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
