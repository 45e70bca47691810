"""A pcap api towards its client: a test scripts what it says, frame by frame, true or not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from types import TracebackType
from typing import Callable, Iterator, Optional

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message
from wsproto.events import Request as Upgrade

import pcapd
from demo.certificates import Credentials
from demo.configurations import LOCAL
from pcapd.wire import Callee, Hello, Limits, Request, Source, Stats

#: Seconds that a script waits for its client.
PATIENCE = 20.0
HEADER = struct.Struct("!IBBH")

Script = Callable[["Client"], None]


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def record(number: int, payload: bytes = b"") -> bytes:
    """A record of an Ethernet frame of 60 bytes that tells its number."""
    data = bytes(12) + b"\x88\xb5" + struct.pack("!I", number) + (payload or bytes(42))
    seconds, fraction = divmod(now_us(), 1_000_000)
    return struct.pack("<4I", seconds, fraction, len(data), len(data)) + data


def frame(kind: int, payload: bytes, source: int = 0) -> bytes:
    """Any frame."""
    return HEADER.pack(len(payload), kind, 0, source) + payload


class Client:
    """One client, from the api's side.

    Attributes:
        callee: Encodes frames; follows the protocol if the script does.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._websocket = WSConnection(ConnectionType.SERVER)
        self.callee = Callee(Request)
        #: The api knows rules of START that were added later.
        self.obedient = True
        #: What it says of its limits.
        self.limits: Optional[Limits] = None

    def head(self) -> bytes:
        """Read the HTTP request's head."""
        received = b""
        while b"\r\n\r\n" not in received:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("no request came")
            received += data
        return received

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def upgrade(self) -> None:
        """Answer the upgrade to a WebSocket."""
        self._websocket.receive_data(self.head())
        assert isinstance(next(self._websocket.events()), Upgrade)
        self.raw(self._websocket.send(AcceptConnection()))

    def say(self, *frames: bytes) -> None:
        """Send frames as one message."""
        self.raw(self._websocket.send(BytesMessage(data=b"".join(frames))))

    def message(self, message: Message) -> None:
        """Send any WebSocket message."""
        self.raw(self._websocket.send(message))

    def close(self, code: int = 1000) -> None:
        """Close the WebSocket."""
        self.raw(self._websocket.send(CloseConnection(code=code)))

    def greet(self, level: int = pcapd.COMPATIBILITY_LEVEL) -> Request:
        """Exchange HELLOs and read START."""
        self.upgrade()
        self.say(self.callee.hello(Hello(level, "api", "double", "0", now_us(), limits=self.limits)))
        self.asked = next(message for message in self.heard() if isinstance(message, Request))
        return self.asked

    def open(self, number: int = 1, instance: str = "web-0", link_type: int = 1, words: str = "") -> None:
        """Open a source."""
        headers_only = self.asked.headers_only and self.obedient
        source = Source(
            instance, "eth0", link_type, 262144, words, agent="agent/0", headers_only=headers_only
        )
        self.say(self.callee.source(number, source))

    def packets(self, records: bytes, number: int = 1) -> None:
        """Send records."""
        self.say(*(bytes(piece) for piece in self.callee.packets(number, records)))

    def stats(self, received: int, *, number: int = 1, final: bool = False, exact: bool = True) -> None:
        """Send counters without drops."""
        counters = Stats(received, 0, 0, received, now_us(), final=final, exact=exact)
        self.say(self.callee.stats(number, counters))

    def heard(self) -> Iterator[object]:
        """Messages of the client, until it leaves."""
        while True:
            data = self._socket.recv(65536)
            if not data:
                return
            self._websocket.receive_data(data)
            for event in self._websocket.events():
                if isinstance(event, BytesMessage):
                    # All at once: who reads on later starts with what comes then.
                    yield from [said.message for said in self.callee.receive(bytes(event.data))]
                elif isinstance(event, CloseConnection):
                    return

    def wait(self) -> None:
        """Until the client leaves."""
        with contextlib.suppress(OSError):
            for _ in self.heard():
                pass


class StreamApi:
    """Listens; each connection is played by the script in a thread.

    Args:
        credentials: Of the server; None speaks no TLS.
        script: What it does; when it returns, the connection is closed.
    """

    def __init__(self, credentials: Optional[Credentials], script: Script) -> None:
        self._script = script
        self._context: Optional[ssl.SSLContext] = None
        if credentials is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(credentials.certificate, credentials.private_key)
        self._listener = socket.create_server((LOCAL, 0))
        self.port: int = self._listener.getsockname()[1]
        #: What a script raised, if not because its client left.
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """Of the api, with https even where it speaks none."""
        return f"https://{LOCAL}:{self.port}"

    def __enter__(self) -> StreamApi:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept up, which close does not
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._play, args=(connection,), daemon=True).start()

    def _play(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._script(Client(connection))
        except OSError:
            pass  # the client left, which scripts provoke
        except BaseException as error:
            self.failures.append(error)
        finally:
            connection.close()
