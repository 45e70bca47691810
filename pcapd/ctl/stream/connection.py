"""The connection to the api: TLS on a socket, and the WebSocket (RFC 6455) on it.

The handshakes block, with one deadline for all of them.  After that the socket is
non-blocking, and the loop in `pcapd.ctl.run` reads the received data.  A read from TLS
returns at most 16 KiB, so reads are repeated until the socket is empty or the buffer is
full: all further work is done once per turn of the loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import socket
import ssl
import threading
import time
from typing import Any, List, Tuple
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError as WebSocketError

import pcapd
from pcapd.ctl.options import Access, Trust, UsageProblem
from pcapd.ctl.stream.deadline import Deadline
from pcapd.ctl.stream.peer import API
from pcapd.ctl.stream.proxy import Tunnel, bypassing, chosen, of_bosh, through
from pcapd.ctl.stream.websocket import Splitter
from pcapd.errors import AgentUnavailable, PcapdError, RemoteProtocolError, RequestError, request_error
from pcapd.limits import CONNECT_TIMEOUT, EXCHANGE_TIMEOUT
from pcapd.wire.frames import Bytes

__all__ = ["UNKNOWN_CA", "ApiUnreachable", "Connection", "address_of", "dial"]

#: Largest number of bytes read in one turn of the loop.
TURN_BYTES = 512 * 1024
#: Hints by OpenSSL's verify codes (X509_V_ERR_*).
_CERTIFICATE_HINTS = {
    10: "its operator must renew it",
    62: "use the name that is in the certificate",
    64: "use a name that is in the certificate",
}
#: Hint for a certificate of an unknown CA.
UNKNOWN_CA = "name the CA that signed it with --ca, or skip all checks with --insecure"
_ANSWER_MAX = 64 * 1024


class ApiUnreachable(PcapdError):
    """The server cannot be reached, is not an api, or cannot be trusted."""


def address_of(api: str, *, secret: bool = True) -> Tuple[bool, str, int, str]:
    """Split an api's URL into TLS or not, host, port and path.

    Args:
        secret: Whether a token will be sent to it.

    Raises:
        UsageProblem: The text is not the URL of an api, or a token would be sent in clear.
    """
    url = urlsplit(api if "://" in api else f"https://{api}")
    try:
        port = url.port
    except ValueError:
        raise UsageProblem(f"{api!r} has no valid port") from None
    strange = "@" in url.netloc or url.query or url.fragment
    if url.scheme not in ("https", "http") or not url.hostname or strange:
        raise UsageProblem(f"{api!r} is not the URL of an api", "for example: https://pcap.example.com")
    secure = url.scheme == "https"
    if secret and not secure and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UsageProblem("a token is not sent in clear", "use https://")
    return secure, url.hostname, port or (443 if secure else 80), url.path.rstrip("/")


def dial(access: Access, deadline: Deadline) -> socket.socket:
    """Connect to the api and check its certificate.

    Args:
        deadline: The deadline of the whole exchange with the api, which begins here.

    Raises:
        ApiUnreachable: The api cannot be reached, or its certificate is not accepted.
        ProxyProblem: The proxy cannot be used.
    """
    secure, host, port, _ = address_of(access.api, secret=bool(access.token))
    try:
        plain = _reach(access, host, port, deadline, secure=secure)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "check --api"
        if directly := bypassing(os.environ, host):
            hint += f", or {directly}, which excludes it from proxies"
        raise ApiUnreachable(f"the host name {host!r} cannot be resolved: {reason}", hint) from error
    except OSError as error:
        reason = "no answer" if isinstance(error, socket.timeout) else error.strerror or str(error)
        raise ApiUnreachable(f"cannot connect to {host} port {port}: {reason}", "check --api") from error
    if not isinstance(plain, Tunnel):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if not secure:
        return plain
    try:
        plain.settimeout(deadline.left(CONNECT_TIMEOUT))
        return _context(access).wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        hint = _CERTIFICATE_HINTS.get(error.verify_code, UNKNOWN_CA)
        raise ApiUnreachable(
            f"the certificate of {host} is not accepted: {error.verify_message}", hint
        ) from error
    except (ssl.SSLError, OSError) as error:
        plain.close()
        problem = plain.problem() if isinstance(plain, Tunnel) else None
        if problem is not None:
            raise problem from error
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ApiUnreachable(f"TLS with {host} port {port} failed: {reason}") from error


def _reach(access: Access, host: str, port: int, deadline: Deadline, *, secure: bool) -> socket.socket:
    """Connect to a host, through a proxy if the environment names one."""
    proxy = of_bosh(os.environ, host) if access.bosh else None
    proxy = proxy or chosen(os.environ, host, secure=secure)
    if proxy is None:
        return _connect(host, port, deadline)
    return through(proxy, host, port, deadline, _connect)


def _connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers."""
    addresses = _addresses(host, port, deadline)
    failure: OSError = socket.timeout()
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            # Each address gets an equal share of the remaining time.
            share = deadline.left() / (len(addresses) - index)
            connection.settimeout(min(CONNECT_TIMEOUT, share))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _addresses(host: str, port: int, deadline: Deadline) -> Any:
    """`socket.getaddrinfo` in a thread, because it has no time limit itself."""
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="addresses", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left(CONNECT_TIMEOUT))
    except queue.Empty:
        raise socket.timeout("no answer from name resolution") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _context(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=str(access.ca) if access.ca else None, cadata=access.pem or None
        )
        if access.ca and access.trust is Trust.ALSO_GIVEN:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise UsageProblem(f"cannot use {access.ca}: {error.strerror or error}", "--ca needs PEM") from error
    if access.trust is Trust.ANYBODY:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection:
    """A WebSocket to the api; see `pcapd.ctl.stream.peer.Stream`.

    Args:
        access: The api's address, and the token.

    Raises:
        ApiUnreachable: The api cannot be reached.
        RequestError: The api refused the request.
    """

    def __init__(self, access: Access) -> None:
        _, host, port, path = address_of(access.api)
        self.peer = API
        self._deadline = Deadline(EXCHANGE_TIMEOUT)
        self._socket = dial(access, self._deadline)
        self._websocket = WSConnection(ConnectionType.CLIENT)
        self._buffer = bytearray(TURN_BYTES)
        self._early = b""  # bytes received after the head of the answer to the upgrade
        self._splitter = Splitter()
        #: Whether the api closed the WebSocket or the connection.
        self.closed = False
        #: Whether the last `read` received anything, including a ping.
        self.heard = False
        headers = [(b"User-Agent", f"pcapctl/{pcapd.__version__}".encode())]
        if access.token:
            headers.append((b"Authorization", b"bearer " + access.token.encode()))
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._upgrade(Request(host=authority, target=f"{path}/v1/stream", extra_headers=headers))
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    # --- the upgrade --------------------------------------------------------

    def _upgrade(self, request: Request) -> None:
        try:
            # A server that requires a client certificate reports this error at the next read.
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                self._socket.settimeout(self._deadline.left())
                self._socket.sendall(self._websocket.send(request))
            head, self._early = self._read_head()
            self._websocket.receive_data(head)
            for event in self._websocket.events():
                if isinstance(event, AcceptConnection):
                    return
                if isinstance(event, RejectConnection):
                    raise refused(event.status_code, self._read_body())
        except socket.timeout as error:
            message = f"the api did not answer within {self._deadline.seconds:g} s"
            raise ApiUnreachable(message, "check --api") from error
        except (WebSocketError, ssl.SSLError, OSError) as error:
            if "CERTIFICATE_REQUIRED" in str(getattr(error, "reason", "")):
                raise ApiUnreachable(
                    "the api requires a client certificate, and pcapctl has none",
                    "use the public URL; the proxy in front of the api holds the client certificate",
                ) from error
            raise ApiUnreachable(f"this is not a pcapd api: {error}", "check --api") from error
        raise ApiUnreachable("this is not a pcapd api: it does not speak HTTP", "check --api")

    def _read_head(self) -> Tuple[bytes, bytes]:
        """The head of the HTTP answer, and the bytes received after it."""
        received = b""
        while b"\r\n\r\n" not in received:
            data = self._receive()
            if not data:
                raise ApiUnreachable("the api closed the connection")
            received += data
            if len(received) > _ANSWER_MAX:
                raise ApiUnreachable("this is not a pcapd api: its answer is too long", "check --api")
        head, _, rest = received.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n", rest

    def _read_body(self) -> bytes:
        """The part of a refusal's body that is received before the deadline."""
        body = b""
        data = self._early
        while len(body) < _ANSWER_MAX:
            if data:  # for wsproto, empty data would mean the end of the connection
                self._websocket.receive_data(data)
            for event in self._websocket.events():
                if isinstance(event, RejectData):
                    body += bytes(event.data)
                    if event.body_finished:
                        return body
            try:
                data = self._receive()
            except socket.timeout:
                return body
            if not data:
                return body
        return body

    def _receive(self) -> bytes:
        self._socket.settimeout(self._deadline.left())
        return self._socket.recv(65536)

    # --- reading ------------------------------------------------------------

    def watch(self, poll: select.poll) -> None:
        """Register what should wake up the loop."""
        poll.register(self._socket, select.POLLIN)

    @property
    def ready(self) -> bool:
        """Whether data is in a buffer of this process, which poll does not report."""
        if self._early:
            return True
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def read(self) -> List[Bytes]:
        """Return the received parts of messages, without waiting; see also `closed`.

        The parts are valid until the next call.

        Raises:
            RemoteProtocolError: The api violated the WebSocket protocol.
            ApiUnreachable: The connection was lost.
        """
        if self._early:
            received, self._early = memoryview(self._early), b""
        else:
            received = memoryview(self._buffer)[: self._fill()]
        self.heard = bool(received)
        cut = self._splitter.feed(received)
        try:
            for frame in cut.others:
                self._websocket.receive_data(frame)
            for event in self._websocket.events():
                if isinstance(event, Ping):
                    self._send(self._websocket.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self.closed = True
                elif isinstance(event, TextMessage):
                    raise RemoteProtocolError("this protocol has no text messages")
        except WebSocketError as error:
            raise RemoteProtocolError(f"WebSocket: {error}") from error
        return list(cut.data)

    def _fill(self) -> int:
        view = memoryview(self._buffer)
        size = 0
        try:
            while size < TURN_BYTES:
                count = self._socket.recv_into(view[size:])
                if count == 0:
                    self.closed = True
                    break
                size += count
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (ssl.SSLEOFError, ConnectionResetError):
            self.closed = True
        except OSError as error:
            if not size:  # bytes read before the error are handled first; the next read fails again
                reason = error.strerror or str(error)
                raise ApiUnreachable(f"the connection to the api was lost: {reason}") from error
        return size

    # --- writing ------------------------------------------------------------

    def send(self, frames: bytes) -> None:
        """Send whole frames as one message."""
        if frames and not self.closed:
            self._send(self._websocket.send(BytesMessage(data=frames)))

    def _send(self, data: bytes) -> None:
        # Only small control frames, which fit in the socket's buffer: this rarely has to wait.
        view = memoryview(data)
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if time.monotonic() > deadline:
                    raise ApiUnreachable("the api no longer reads") from None
                select.select([], [self._socket], [], 0.1)
            except OSError:
                self.closed = True
                return

    def close(self) -> None:
        """Close the WebSocket and the connection."""
        with contextlib.suppress(PcapdError, WebSocketError):
            if not self.closed:
                self._send(self._websocket.send(CloseConnection(code=1000)))
        self._socket.close()


def refused(status: int, body: bytes) -> RequestError:
    """The error that an HTTP answer reports."""
    try:
        first = json.loads(body)["errors"][0]
        return request_error(str(first["code"]), str(first["title"]), str(first.get("detail", "")))
    except (ValueError, LookupError, TypeError, RecursionError):
        return AgentUnavailable(f"the api answered with HTTP status {status}", "is --api the pcap api?")
