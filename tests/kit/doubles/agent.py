"""An agent that captures nothing: it remembers what it is asked, and delivers one packet per source.

Speaks the wire protocol over mutual TLS with the code that real agents use
for it; everything else is made up.  Threads, so that tests may block.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from types import TracebackType
from typing import Any, Optional

from demo.certificates import Credentials
from demo.processes import wait_until
from pcapd import COMPATIBILITY_LEVEL
from pcapd.wire import (
    Callee,
    CaptureStart,
    Counters,
    End,
    EndReason,
    Error,
    Hello,
    Notice,
    NoticeType,
    Ping,
    Source,
    Stats,
    Stop,
)

#: Seconds between signs of life.
BEAT = 0.1


def now_us() -> int:
    return time.time_ns() // 1000


def packet(payload: bytes) -> bytes:
    """Return a record that holds an Ethernet frame of an unassigned type."""
    frame = b"\x02" * 12 + b"\x88\xb5" + payload
    now = now_us()
    return struct.pack("=4I", now // 1_000_000, now % 1_000_000, len(frame), len(frame)) + frame


class AgentDouble:
    """One cell's agent.  Serves from entering to leaving.

    Args:
        host: Of the loopback network, so that there can be many of one port.

    Attributes:
        started: What it was asked to capture, in order.
        refuse: Answer every START with this.
        obedient: Knows the rules of START that were added later.
    """

    def __init__(self, credentials: Credentials, host: str, port: int) -> None:
        self.host = host
        self.started: list[CaptureStart] = []
        self.refuse: Optional[Error] = None
        self.obedient = True
        self._conversations: set[_Conversation] = set()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(credentials.certificate, credentials.private_key)
        self._context.load_verify_locations(credentials.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server((host, port), backlog=128)
        self.connections = 0

    @property
    def running(self) -> list[CaptureStart]:
        """What it captures now."""
        return [one.request for one in list(self._conversations) if one.request is not None]

    def wait(self, count: int = 1) -> None:
        """Wait until so many captures were asked for."""
        wait_until(lambda: len(self.started) >= count, f"{self.host} has {count} captures", timeout=30)

    def lose(self, handle: str) -> None:
        """Let a container go away."""
        for one in list(self._conversations):
            if one.request is not None and one.request.container and one.request.container.handle == handle:
                one.gone = True

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._converse, args=(plain,), daemon=True).start()

    def _converse(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            conversation = _Conversation(self, self._context.wrap_socket(plain, server_side=True))
            self._conversations.add(conversation)
            try:
                conversation.run()
            finally:
                self._conversations.discard(conversation)
                conversation.socket.close()

    def close(self) -> None:
        """Go away, with all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._conversations):
            with contextlib.suppress(OSError):
                one.socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> AgentDouble:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()


class _Conversation:
    def __init__(self, agent: AgentDouble, connection: ssl.SSLSocket) -> None:
        self._agent = agent
        self.socket = connection
        self._callee = Callee(CaptureStart)
        self.request: Optional[CaptureStart] = None
        self._interfaces: tuple[str, ...] = ()
        self.gone = False

    def run(self) -> None:
        hello = Hello(COMPATIBILITY_LEVEL, "agent", f"cell@{self._agent.host}", "0", now_us(), "libpcap 0")
        self.socket.sendall(self._callee.hello(hello))
        self.socket.settimeout(BEAT)
        while not self._callee.ended:
            self._hear()
            self._beat()

    def _hear(self) -> None:
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return
        if not data:
            raise ConnectionResetError
        for event in self._callee.receive(data):
            if isinstance(event.message, Ping):
                self.socket.sendall(self._callee.pong(event.message, now_us()))
            elif isinstance(event.message, CaptureStart):
                self._start(event.message)
            elif isinstance(event.message, Stop):
                self._end(EndReason.STOPPED)

    def _start(self, request: CaptureStart) -> None:
        self._agent.started.append(request)
        if self._agent.refuse is not None:
            self.socket.sendall(self._callee.end(self._agent.refuse))
            return
        self.request, self._interfaces = request, request.interfaces or ("eth0",)
        for number, interface in enumerate(self._interfaces, 1):
            source = Source(
                request.instance,
                interface,
                1,
                request.snaplen,
                request.filter,
                agent="cell",
                headers_only=request.headers_only and self._agent.obedient,
                exclude_filters=len(request.exclude_filters) if self._agent.obedient else 0,
                excludes_api=True,
            )
            self._send(self._callee.source(number, source))
            self._send(*self._callee.packets(number, packet(request.instance.encode())))
        self._stats(final=False)

    def _beat(self) -> None:
        if self.request is None or self._callee.ended:
            return
        if self.gone:
            words = "the container is gone"
            self._send(self._callee.notice(Notice(NoticeType.INSTANCE_UNAVAILABLE, words, "cell")))
            self._end(EndReason.SOURCES_GONE)
        else:
            self._stats(final=False)

    def _stats(self, *, final: bool) -> None:
        for number in range(1, len(self._interfaces) + 1):
            self._send(self._callee.stats(number, Stats(1, 0, 0, 1, now_us(), final)))

    def _end(self, reason: EndReason) -> None:
        self._stats(final=True)
        self.request = None
        counters = tuple(Counters(number, 1, 0, 0, 1) for number in range(1, len(self._interfaces) + 1))
        self._send(self._callee.end(End(reason, "", counters)))

    def _send(self, *pieces: Any) -> None:
        for piece in pieces:
            self.socket.sendall(piece)
