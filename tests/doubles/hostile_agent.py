"""An agent that says whatever a test wants: TLS on a thread, bytes as scripted."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import TracebackType
from typing import Callable, Optional

from pcapd import COMPATIBILITY_LEVEL
from pcapd.wire import CaptureStart, Hello, Source
from pcapd.wire.sessions import Callee, encode_message
from tests.lab.certificates import Credentials

Script = Callable[["Conversation"], None]


class Conversation:
    """One connection of the api's, as a script sees it."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self.session = Callee(CaptureStart)

    def send(self, *pieces: bytes) -> None:
        """Send bytes, whatever they mean."""
        self._connection.sendall(b"".join(pieces))

    def greet(self, level: int = COMPATIBILITY_LEVEL) -> None:
        """Say HELLO."""
        self.send(encode_message(Hello(level, "agent", "hostile", "1", 0)))

    def await_start(self) -> CaptureStart:
        """Answer PINGs until START comes."""
        from pcapd.wire import Ping

        while data := self._connection.recv(65536):
            for event in self.session.receive(data):
                if isinstance(event.message, Ping):
                    self.send(self.session.pong(event.message, 0))
                elif isinstance(event.message, CaptureStart):
                    return event.message
        raise ConnectionError("the api left before START")

    def open(self) -> CaptureStart:
        """Do what an honest agent does until its source 1 is open."""
        self.greet()
        start = self.await_start()
        self.send(self.session.source(1, Source(start.instance, "eth0", 1, 262144, "", excludes_api=True)))
        return start

    def wait(self) -> None:
        """Read until the api leaves."""
        with contextlib.suppress(OSError):
            while self._connection.recv(65536):
                pass


class HostileAgent:
    """Listens from entering to leaving; each connection runs the script.

    Args:
        credentials: What it shows; the api must accept it, or it has nothing to say.
        script: What it does; when it returns, the connection is closed.
    """

    def __init__(self, credentials: Credentials, script: Script, port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(credentials.certificate, credentials.private_key)
        self._context.load_verify_locations(credentials.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.script = script
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                plain.settimeout(30)
                thread = threading.Thread(target=self._serve, args=(plain,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                self.script(Conversation(connection))

    def __enter__(self) -> HostileAgent:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._thread, *self._threads):
            thread.join(10)
