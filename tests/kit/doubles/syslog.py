"""Receivers of syslog: at a Unix datagram socket, and over TLS with octet counting (RFC 5425)."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Optional

from demo.certificates import Credentials

#: RFC 5424, section 6, as far as we use it: no structured data.
_MESSAGE = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}(?:Z|[+-]\d\d:\d\d)) "
    r"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<pid>[!-~]{1,128}) (?P<kind>[!-~]{1,32}) - (?P<text>.*)",
    re.DOTALL,
)


class SyslogDouble:
    """What has been received; a message of another form fails the test that reads it."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind, whose messages have facility 13, severity 6 and the kind as MSGID."""
        found = []
        for data in self.raw:
            match = _MESSAGE.fullmatch(data.decode())
            assert match is not None, data
            record = json.loads(match["text"])
            assert (match["pri"], match["app"], match["kind"]) == ("110", "pcapd", record["audit"])
            assert match["time"] == record["time"]
            found += [record] if record["audit"] == kind else []
        return found


class UnixSyslogDouble(SyslogDouble):
    """A receiver at a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._socket: Optional[socket.socket] = None

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        threading.Thread(target=self._receive, args=(self._socket,), daemon=True).start()

    def stop(self) -> None:
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_RDWR)
        self._path.unlink()

    def _receive(self, receiver: socket.socket) -> None:
        with receiver:
            while data := receiver.recv(1 << 20):
                self.raw.append(data)


class TlsSyslogDouble(SyslogDouble):
    """A server for syslog over TLS, which wants a client's certificate.

    Args:
        credentials: Its certificate, and the CA of the client's.
    """

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(credentials.certificate, credentials.private_key)
        self._context.load_verify_locations(credentials.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener: Optional[socket.socket] = None
        self._connections: list[ssl.SSLSocket] = []
        self.port = 0

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as connection:
            self._connections.append(connection)
            data = b""
            while piece := connection.recv(65536):
                data += piece
                while (match := re.match(rb"([1-9]\d*) ", data)) and len(data) >= match.end() + int(match[1]):
                    end = match.end() + int(match[1])
                    self.raw.append(data[match.end() : end])
                    data = data[end:]
