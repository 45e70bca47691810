"""Scenarios that lose, delay, repeat or reorder packets."""

from __future__ import annotations

import contextlib
import random
import socket
import time

from tests.hosts.scenarios.play import OK, play, some_gets
from tests.hosts.scenarios.plays.healthy import healthy_upload
from tests.hosts.scenarios.stage import (
    SERVER,
    Stage,
    answer,
    connection,
    get,
    read_head,
    web,
)  # fmt: skip

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
