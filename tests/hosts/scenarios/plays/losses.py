"""Scenarios that lose, delay, repeat or reorder packets."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from typing import Any

from tests.hosts.scenarios.files import read, write
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


@play()
def healthy_at_any(stage: Stage, draw: random.Random) -> None:
    """A capture on a router's ``any`` sees each packet twice, with the queue's delay between."""
    stage.middle.run(
        "tc", "qdisc", "add", "dev", "left", "root", "tbf", "rate", f"{draw.randint(20, 50)}mbit",
        "burst", "16kb", "limit", "4mb",
    )  # fmt: skip
    stage.capture_middle()
    stage.serve_udp(lambda one, data, peer: one.sendto(data * 10, peer) and None, 9000)
    stage.serve(web(lambda number, head: answer(body=bytes(1_000_000))))

    def datagrams() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect((SERVER, 9000))
            for number in range(200):
                one.send(b"%09d" % number * 10)
                time.sleep(0.002)
            time.sleep(0.7)

    stage.ask(some_gets(1), datagrams)


@play("lost_between", may="retransmissions", client="retransmissions", server="retransmissions", faults=lambda draw: [
    {"way": "down", "larger": 1000, "every": draw.randint(35, 90), "do": "drop"}])  # fmt: skip
def loss_at_any(stage: Stage, draw: random.Random) -> None:
    stage.capture_middle()
    transfer(stage, draw)


def heartbeats(stage: Stage, count: int, pause: float) -> None:
    """Equal datagrams: without a connected socket, Linux gives all of them the identification 0."""

    def answered(one: socket.socket, data: bytes, peer: Any) -> None:
        one.sendto(b"alive", peer)

    stage.serve_udp(answered, 9000)

    def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(pause)
            for _ in range(count):
                one.sendto(b"alive?", (SERVER, 9000))
                with contextlib.suppress(OSError):
                    one.recv(100)
                time.sleep(pause)
            time.sleep(0.7)
            one.sendto(b"end", (SERVER, 9000))
            one.recv(100)

    stage.ask(run)


@play("lost_between", client="", faults=lambda draw: [
    {"protocol": 17, "way": "up", "every": draw.randint(4, 8), "do": "drop"}])  # fmt: skip
def heartbeats_lost(stage: Stage, draw: random.Random) -> None:
    heartbeats(stage, 24, 0.1)


def captured_later(stage: Stage, draw: random.Random) -> None:
    """The capture at one of the places started in the middle."""
    file = draw.choice(stage.files)
    packets = list(read(file))
    write(file, packets[draw.randint(6, len(packets) // 2) :])


@play(after=captured_later)
def healthy_heartbeats(stage: Stage, draw: random.Random) -> None:
    heartbeats(stage, 16, 0.2)


@play("lost_between", may="http_unanswered", client="retransmissions", faults=lambda draw: [
    {"way": "up", "port": 8080, "after": 2.0, "do": "drop"}])  # fmt: skip
def dropped_midway(stage: Stage, draw: random.Random) -> None:
    """A rule that comes in the middle of a connection drops what the client sends; others go on for a while."""
    stage.serve(OK)
    stage.serve(OK, 8082)

    def run() -> None:
        with connection(timeout=draw.uniform(3, 4)) as one:
            end = time.monotonic() + 6
            while time.monotonic() < end:
                get(one)
                time.sleep(0.1)

    def other() -> None:
        time.sleep(1.5)
        with contextlib.suppress(OSError), connection(8082) as one:
            for _ in range(20):
                get(one)
                time.sleep(0.1)

    stage.ask(run, other)


@play(faults=lambda draw: [
    {"way": "up", "larger": 1300, "do": "too-big", "mtu": 1300}])  # fmt: skip
def healthy_path_mtu(stage: Stage, draw: random.Random) -> None:
    """ICMP says that packets are too large, and the client sends smaller ones."""
    transfer(stage, draw, up=True)
