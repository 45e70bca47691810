"""Scenarios with faults of DNS, TLS and HTTP, and several faults together."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from typing import Any, Callable

from tests.hosts.scenarios.play import play, some_gets
from tests.hosts.scenarios.plays.healthy import dns_answer, lookups, tls_contexts, tls_scenario
from tests.hosts.scenarios.stage import (
    Stage,
    answer,
    connection,
    get,
    read_head,
    web,
)  # fmt: skip

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
    tls_scenario(stage, *tls_contexts(version), "other.example")


@play("tls_failed", may="reset_in_use", client="tls_failed", server="tls_failed")
def tls_versions(stage: Stage, draw: random.Random) -> None:
    server, client = tls_contexts(ssl.TLSVersion.TLSv1_2)
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    tls_scenario(stage, server, client, "app.example")


@play("tls_failed", may="reset_in_use", client="tls_failed", server="tls_failed")
def tls_closed(stage: Stage, draw: random.Random) -> None:
    """The server closes as soon as the client says hello."""

    def handle(one: socket.socket) -> None:
        one.recv(4096)

    stage.serve(handle, 8443)
    _, client = tls_contexts()

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
