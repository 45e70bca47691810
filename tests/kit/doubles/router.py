"""gorouter's rules for a route, as far as they touch streams.

It ends every response ``response_limit`` seconds after its request began, body
included, except those of WebSockets (its proxy_round_tripper.go: the request's
deadline, and the exemption for ``Upgrade: websocket``).  It overwrites
``X-Vcap-Request-Id``, appends to ``X-Forwarded-For``, speaks HTTP/1.1 to the
backend, and writes URIs with their query into its access log.  The load
balancer that is usually in front of it cuts connections that are idle.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
import uuid
from types import TracebackType
from typing import Any, Optional

from demo.certificates import Credentials
from demo.configurations import LOCAL

_HEAD_MAX = 65536
_TICK = 0.05


class Router:
    """A route to one backend.  Serves from entering to leaving.

    Args:
        credentials: Its own, towards clients; of the authority that issued the backend's.
        backend: Port of the pcap api on this machine, with TLS.
        response_limit: Seconds for a whole response; gorouter's default is 900.
        idle_limit: Seconds without a byte in either direction; often 60.

    Attributes:
        access_log: Request lines, with request ids and why the connection ended.
    """

    def __init__(
        self,
        credentials: Credentials,
        backend: int,
        *,
        response_limit: float = 900.0,
        idle_limit: float = 60.0,
    ) -> None:
        self.access_log: list[dict[str, str]] = []
        self._backend = backend
        self._response_limit = response_limit
        self._idle_limit = idle_limit
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(credentials.certificate, credentials.private_key)
        self._context.set_alpn_protocols(["http/1.1"])
        self._outgoing = ssl.create_default_context(cafile=str(credentials.ca))
        self._listener = socket.create_server((LOCAL, 0), backlog=64)

    @property
    def port(self) -> int:
        """Where clients go."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The same."""
        return f"https://{LOCAL}:{self.port}"

    def _serve(self) -> None:
        while True:
            try:
                plain, peer = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._route, args=(plain, peer[0]), daemon=True).start()

    def _route(self, plain: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError, ValueError), self._tls(plain) as client:
            head, rest = _read_head(client)
            entry = {"line": head.split("\r\n", 1)[0], "id": str(uuid.uuid4()), "end": ""}
            self.access_log.append(entry)
            with self._connect() as backend:
                backend.sendall(_rewritten(head, peer, entry["id"]) + rest)
                limit = None if _is_websocket(head) else self._response_limit
                entry["end"] = self._copy(client, backend, limit)

    def _tls(self, plain: socket.socket) -> ssl.SSLSocket:
        return self._context.wrap_socket(plain, server_side=True)

    def _connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection((LOCAL, self._backend), 5)
        return self._outgoing.wrap_socket(plain, server_hostname=LOCAL)

    def _copy(self, client: ssl.SSLSocket, backend: ssl.SSLSocket, limit: Optional[float]) -> str:
        """Copy both ways; returns why it ended."""
        began = heard = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, backend)
            selector.register(backend, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select(_TICK):
                    heard = time.monotonic()
                    source: Any = key.fileobj
                    if not _forward(source, key.data):
                        return "client left" if source is client else "backend closed"
                now = time.monotonic()
                if limit is not None and now - began > limit:
                    return "backend-request-timeout"
                if now - heard > self._idle_limit:
                    return "idle"

    def __enter__(self) -> Router:
        threading.Thread(target=self._serve, daemon=True).start()
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


def _read_head(client: ssl.SSLSocket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(4096)
        if not piece or len(data) > _HEAD_MAX:
            raise ValueError("no request")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def _is_websocket(head: str) -> bool:
    lines = [line.lower().replace(" ", "") for line in head.split("\r\n")]
    upgrade = any(line.startswith("connection:") and "upgrade" in line for line in lines)
    return upgrade and "upgrade:websocket" in lines


def _rewritten(head: str, peer: str, request_id: str) -> bytes:
    lines, chain = [], peer
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "x-forwarded-for":
            chain = f"{value.strip()}, {peer}"
        elif name.lower() != "x-vcap-request-id":
            lines.append(line)
    lines += [f"X-Forwarded-For: {chain}", f"X-Vcap-Request-Id: {request_id}", "X-Forwarded-Proto: https"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _forward(source: ssl.SSLSocket, sink: ssl.SSLSocket) -> bool:
    """Copy what is there; False when it is over."""
    data = source.recv(65536)
    # What OpenSSL holds already wakes no selector.
    while data and source.pending():
        data += source.recv(65536)
    if data:
        sink.sendall(data)
    return bool(data)
