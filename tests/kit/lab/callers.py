"""The api's part of a conversation with an agent, played by a test.  Blocking."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, TypeVar

from demo.certificates import Credentials
from demo.configurations import LOCAL
from pcapd import COMPATIBILITY_LEVEL
from pcapd.wire import (
    Caller,
    CaptureStart,
    Container,
    End,
    Error,
    Event,
    Hello,
    Message,
    Packets,
    Ping,
    Stats,
)
from tests.kit.lab.containers import in_namespace

M = TypeVar("M", bound=Message)

#: Seconds that an agent may take for anything.
PATIENCE = 15.0


class AgentCaller:
    """One connection to an agent, from the agent's own network namespace.

    Args:
        namespace: Where the agent runs.
        server_name: What its certificate says.

    Attributes:
        events: What the agent has said so far.
    """

    def __init__(
        self, credentials: Credentials, port: int, namespace: Path, server_name: str = LOCAL
    ) -> None:
        context = ssl.create_default_context(cafile=str(credentials.ca))
        context.load_cert_chain(credentials.certificate, credentials.private_key)
        # A socket stays in the namespace in which it was made.
        plain = in_namespace(namespace, lambda: socket.create_connection((LOCAL, port), PATIENCE))
        self._socket = context.wrap_socket(plain, server_hostname=server_name)
        self._caller = Caller()
        self.events: list[Event] = []
        self.wait(Hello)
        self._socket.sendall(self._caller.hello(Hello(COMPATIBILITY_LEVEL, "api", "api", "0", 0)))

    def start(self, container: Optional[Container], **settings: Any) -> None:
        """Ask for a capture."""
        request = CaptureStart("capture", "request-1", "app/0", container=container, **settings)
        self._socket.sendall(self._caller.start(request))

    def stop(self) -> End:
        """End the capture and return how it ended."""
        self._socket.sendall(self._caller.stop())
        return self.wait(End)

    def all(self, kind: type[M]) -> list[M]:
        """What was said of that kind."""
        return [event.message for event in self.events if isinstance(event.message, kind)]

    def wait(self, kind: type[M], count: int = 1) -> M:
        """Wait until something of that kind was said so many times; returns the last one."""
        deadline = time.monotonic() + PATIENCE
        while len(self.all(kind)) < count:
            if kind not in (End, Error) and self._caller.ended:
                raise AssertionError(f"no {kind.__name__}, but {self.events[-1].message}")
            assert time.monotonic() < deadline, f"no {kind.__name__}: {self.events}"
            self._hear()
        return self.all(kind)[count - 1]

    def wait_for_the_end(self) -> None:
        """Wait until nothing more follows, however it ended."""
        while not self._caller.ended:
            self._hear()

    def seen(self, mark: bytes, source: Optional[int] = None) -> list[bytes]:
        """The packets that came so far and hold a mark, from one source or all."""
        return [packet for packet in self.packets(source) if mark in packet]

    def wait_for(self, mark: bytes, count: int = 1) -> None:
        """Wait until so many packets with a mark came."""
        deadline = time.monotonic() + PATIENCE
        while len(self.seen(mark)) < count:
            assert time.monotonic() < deadline, f"{mark!r} was not captured {count} times"
            self._hear()

    def packets(self, source: Optional[int] = None) -> list[bytes]:
        """All packets that came so far."""
        return [
            packet
            for event in self.events
            if isinstance(event.message, Packets) and source in (None, event.source)
            for packet in _packets(bytes(event.message.records))
        ]

    def _hear(self) -> None:
        self._socket.settimeout(PATIENCE)
        data = self._socket.recv(65536)
        assert data, f"the agent closed: {self.events}"
        for event in self._caller.receive(data):
            if isinstance(event.message, Ping):
                self._socket.sendall(self._caller.pong(event.message, event.message.sent_us))
            elif not isinstance(event.message, Stats):
                self.events.append(event)

    def __enter__(self) -> AgentCaller:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._socket.close()


def _packets(records: bytes) -> list[bytes]:
    found = []
    while records:
        length = struct.unpack_from("<4I", records)[2]
        found.append(records[16 : 16 + length])
        records = records[16 + length :]
    return found
