"""An agent that says whatever a test wants: TLS on a thread, bytes as scripted."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Callable, Optional, TypeVar

from demo.certificates import Credentials
from pcapd import COMPATIBILITY_LEVEL
from pcapd.wire import CaptureStart, Hello, Ping, Source, Stop
from pcapd.wire.sessions import Callee, encode_message

Script = Callable[["Conversation"], None]
T = TypeVar("T", CaptureStart, Stop)


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
        return self._await(CaptureStart)

    def await_stop(self) -> None:
        """Answer PINGs until STOP comes."""
        self._await(Stop)

    def _await(self, kind: type[T]) -> T:
        while data := self._connection.recv(65536):
            # All at once: what is left in a generator comes again.
            for message in [event.message for event in self.session.receive(data)]:
                if isinstance(message, Ping):
                    self.send(self.session.pong(message, 0))
                elif isinstance(message, kind):
                    return message
        raise ConnectionError(f"the api left before {kind.__name__}")

    def trickle(self, data: bytes, size: int, beat: float) -> None:
        """Send so many bytes each `beat` seconds, as a slow line carries them, until the api leaves."""
        for begin in range(0, len(data), size):
            time.sleep(beat)
            self.send(data[begin : begin + size])

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
