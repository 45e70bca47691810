"""Scenarios of HTTP/2 in clear with prior knowledge, as gRPC uses it: h2 is at both ends."""

from __future__ import annotations

import random
import socket
import time
from typing import Any, Callable, NamedTuple, Optional, Sequence

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from tests.hosts.scenarios.play import play
from tests.hosts.scenarios.stage import Stage, connection

OK = [(":status", "200"), ("content-type", "application/grpc")]


class Said(NamedTuple):
    """An answer.

    Attributes:
        after: Seconds until its header block.
        messages: The sizes of the messages.
        every: Seconds between them.
        status: The gRPC status; None resets the stream instead.
    """

    after: float = 0
    messages: Sequence[int] = (10,)
    every: float = 0
    status: Optional[int] = 0


class _Server:
    """One connection; its streams are answered at their times, not one after the other."""

    def __init__(self, one: socket.socket, reply: Callable[[int, str], Said]) -> None:
        self._one, self._reply = one, reply
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._steps: list[tuple[float, int, str, Any]] = []
        self._count = 0

    def run(self) -> None:
        self._h2.initiate_connection()
        while True:
            self._one.settimeout(10)
            self._one.sendall(self._h2.data_to_send())
            due = min((step[0] for step in self._steps), default=time.monotonic() + 60)
            self._one.settimeout(max(0.001, due - time.monotonic()))
            try:
                data = self._one.recv(65536)
            except socket.timeout:
                self._due()
                continue
            if not data:
                return
            for event in self._h2.receive_data(data):
                self._take(event)
            self._due()

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            said = self._reply(self._count, dict(event.headers)[":path"])
            self._count += 1
            at = time.monotonic() + said.after
            self._steps.append((at, event.stream_id, "head", said))
            for number, size in enumerate(said.messages):
                self._steps.append((at + said.every * number, event.stream_id, "message", size))
            self._steps.append((at + said.every * len(said.messages), event.stream_id, "end", said.status))
        elif isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self._steps = [step for step in self._steps if step[1] != event.stream_id]

    def _due(self) -> None:
        now = time.monotonic()
        for step in sorted(self._steps, key=lambda one: one[0]):
            at, stream, what, value = step
            if at > now or any(other[1] == stream for other in self._steps[: self._steps.index(step)]):
                continue
            if what == "message" and self._h2.local_flow_control_window(stream) < value:
                continue
            self._steps.remove(step)
            if what == "message":
                for begin in range(0, value, 16384):
                    self._h2.send_data(stream, bytes(min(16384, value - begin)))
            elif what == "end" and value is None:
                self._h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
            elif what == "head" and value.status is not None:
                self._h2.send_headers(stream, OK)
            elif what == "end":
                self._h2.send_headers(stream, [("grpc-status", str(value))], end_stream=True)


def serve(stage: Stage, reply: Callable[[int, str], Said]) -> None:
    """Serve gRPC; `reply` gets the number of a connection's call and its path."""
    stage.serve(lambda one: _Server(one, reply).run(), 50051)


def calls(paths: Sequence[str], together: int = 1, size: int = 10) -> Callable[[], None]:
    """Make calls on one connection, some of them at a time; a path that ends in /Watch is cancelled at the end."""

    def run() -> None:
        peer = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        peer.initiate_connection()
        left, open_, watched = list(paths), set(), []
        with connection(50051, 8) as one:
            while left or open_:
                while left and len(open_) < together:
                    path, stream = left.pop(0), peer.get_next_available_stream_id()
                    peer.send_headers(stream, [
                        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "app"),
                        ("content-type", "application/grpc"), ("te", "trailers"), ("x-request-id", f"{stream}-{id(peer)}"),
                    ])  # fmt: skip
                    peer.send_data(stream, bytes(size), end_stream=True)
                    (watched.append if path.endswith("/Watch") else open_.add)(stream)
                one.sendall(peer.data_to_send())
                data = one.recv(65536)
                if not data:
                    return
                for event in peer.receive_data(data):
                    if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                        peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                        open_.discard(event.stream_id)
            for stream in watched:
                peer.reset_stream(stream, ErrorCodes.CANCEL)
            peer.close_connection()
            one.sendall(peer.data_to_send())

    return run


@play()
def healthy_http2(stage: Stage, draw: random.Random) -> None:
    """Short calls, large answers, and streams that last and are cancelled; some calls find nothing."""

    def reply(number: int, path: str) -> Said:
        if path.endswith("/Watch"):
            return Said(0, [20] * 100, draw.uniform(0.1, 0.4))
        if path.endswith("/Slowly"):
            return Said(0.01, [20] * 10, draw.uniform(0.1, 0.4))
        return Said(draw.uniform(0, 0.02), (draw.choice((10, 10, 30_000)),), status=draw.choice((0, 0, 0, 5)))

    serve(stage, reply)
    paths = ["/feed.Feed/Watch", *["/shop.Cart/Add"] * draw.randint(50, 150), "/feed.Feed/Slowly"]
    stage.ask(*[calls(paths, draw.randint(1, 10) + 1, draw.randint(1, 3000)) for _ in range(3)])


@play("http_slow", client="http_slow", server="http_slow")
def http2_slow(stage: Stage, draw: random.Random) -> None:
    """One call waits, while others on the same connection do not."""
    pause = draw.uniform(1.2, 2)
    serve(stage, lambda number, path: Said(pause if path.startswith("/slow") else 0.01))
    stage.ask(*[calls([*["/shop.Cart/Add"] * 5, "/slow.Stock/Count", *["/shop.Cart/Add"] * 30], 4)] * 2)


@play("http_errors", client="http_errors", server="http_errors")
def http2_errors(stage: Stage, draw: random.Random) -> None:
    """Some calls end with the status of a failed server; the HTTP status is 200."""
    every, status = draw.randint(2, 9), draw.choice((2, 4, 13, 14))
    serve(stage, lambda number, path: Said(0.01, (), status=status if number % every == 1 else 0))
    stage.ask(*[calls(["/shop.Cart/Add"] * 30, 5)] * 3)


@play("http_errors", client="http_errors", server="http_errors")
def http2_resets(stage: Stage, draw: random.Random) -> None:
    """The server resets some streams; the others go on."""
    every = draw.randint(2, 9)
    serve(stage, lambda number, path: Said(0.01, (), status=None if number % every == 1 else 0))
    stage.ask(*[calls(["/shop.Cart/Add"] * 30, 5)] * 3)


@play("http_unanswered", client="http_unanswered", server="http_unanswered")
def http2_server_stops(stage: Stage, draw: random.Random) -> None:
    """The server's process ends while a call waits."""

    def stop(one: socket.socket) -> None:
        server = _Server(one, lambda number, path: Said(0.01) if number < 5 else _stop(one))
        server.run()

    stage.serve(stop, 50051)
    stage.ask(calls(["/shop.Cart/Add"] * 6))


def _stop(one: socket.socket) -> Said:
    time.sleep(0.2)
    raise OSError("the process ends")
