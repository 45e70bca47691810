"""An HTTPS server on a thread, whose answers may be slow, cut off or nonsense."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Mapping, Optional, Union
from urllib.parse import parse_qs, urlsplit

from demo.certificates import Credentials
from demo.configurations import LOCAL

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Asked:
    """A request as it came.

    Attributes:
        path: Without the query.
        query: Values by name.
        headers: By lower-case name.
        form: The body, where it is a form.
        body: The body as it came.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    form: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        body: Bytes, or what becomes JSON.
        length: What Content-Length claims, instead of the truth.
        delay: Seconds before its first byte.
        trickle: Seconds between its bytes.
        repeat: How often the body is sent, one after another.
    """

    status: int = 200
    body: Union[bytes, Mapping[str, Any]] = b""
    headers: tuple[tuple[str, str], ...] = ()
    length: Optional[int] = None
    delay: float = 0.0
    trickle: float = 0.0
    repeat: int = 1

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class HttpsDouble:
    """A server; subclasses say what it answers.  Serves from entering to leaving.

    Attributes:
        asked: The requests so far.
        connections: How many were accepted so far, up to TLS.
        canned: Answers by path, instead of the right ones.
    """

    def __init__(self, credentials: Credentials, port: int = 0, host: str = LOCAL) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.canned: dict[str, Answer] = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(credentials.certificate, credentials.private_key)
        self._address = (host, port)
        self._server: Optional[_Server] = None

    def answer(self, asked: Asked) -> Answer:
        """Say what the real one says."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """Where it listens, or did last."""
        return self._address[1]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"https://{self._address[0]}:{self.port}"

    def start(self) -> None:
        """Listen; after a stop on the same port again."""
        self._server = _Server(self._address, self, self._context)
        self._address = self._server.server_address[:2]  # type: ignore[assignment]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Go away, with all connections."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            server.cut()

    def get(self, asked: Asked) -> Answer:
        """Note a request and answer it."""
        self.asked.append(asked)
        return self.canned.get(asked.path) or self.answer(asked)

    def cut(self) -> None:
        """Break every connection, and go on listening."""
        if self._server is not None:
            self._server.cut()

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], double: HttpsDouble, context: ssl.SSLContext) -> None:
        self.double = double
        self._context = context
        self._sockets: set[socket.socket] = set()
        super().__init__(address, _Endpoint)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """On the connection's thread: TLS, then HTTP."""
        secure = self._context.wrap_socket(request, server_side=True)
        self.double.connections += 1
        self._sockets.add(secure)
        try:
            super().finish_request(secure, client_address)
        finally:
            self._sockets.discard(secure)
            secure.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves or refuses us is no trouble."""

    def cut(self) -> None:
        """Break every connection."""
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, parts.path, parse_qs(parts.query), headers, parse_qs(body.decode()), body)
        self._send(self.server.double.get(asked))

    do_POST = do_GET

    def _send(self, answer: Answer) -> None:
        time.sleep(answer.delay)
        content = answer.content
        self.send_response(answer.status)
        given = {name.lower() for name, _ in answer.headers}
        if "content-type" not in given:
            self.send_header("Content-Type", "application/json; charset=utf-8")
        for name, value in answer.headers:
            self.send_header(name, value)
        truth = len(content) * answer.repeat
        self.send_header("Content-Length", str(truth if answer.length is None else answer.length))
        self.end_headers()
        step = 1 if answer.trickle else _PIECE
        for _ in range(answer.repeat):
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(answer.trickle)
        if answer.length not in (None, truth):
            self.close_connection = True
