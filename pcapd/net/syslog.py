"""Sends audit records to syslog: over a Unix socket, or over TLS.  Never over UDP, which loses them.

A record is a message of RFC 5424 with facility 13 (log audit) and severity 6 (informational);
MSGID is the type of the record, MSG its JSON.

TLS follows RFC 5425.  Syslog has no acknowledgement, so `TlsSyslog` uses TCP's: a record is kept
until the receiver's kernel has acknowledged it, and sent again over the next connection otherwise,
so a record may arrive twice.  What a receiver loses after that, nobody can notice here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from pcapd.config.schema import SyslogConfig
from pcapd.errors import ConfigError
from pcapd.limits import AUDIT_QUEUE_MAX, SYSLOG_LOCAL_TIMEOUT, SYSLOG_RETRY, SYSLOG_TIMEOUT

__all__ = ["TlsSyslog", "UnixSyslog", "context_of", "message_of"]

#: Facility 13, severity 6: RFC 5424, section 6.2.1.
_PRIORITY: Final = 13 * 8 + 6
#: seconds between looks for TCP's acknowledgement, and between other looks.
_SOON, _LATER = 0.02, 1.0


def message_of(line: str) -> bytes:
    """Make a syslog message (RFC 5424, section 6) of the JSON line of an audit record."""
    record = json.loads(line)
    kind = str(record.get("audit", "-"))[:32]
    head = f"<{_PRIORITY}>1 {record['time']} {socket.gethostname()[:255]} pcapd {os.getpid()} {kind} -"
    return f"{head} {line.rstrip()}".encode()


class UnixSyslog:
    """Sends to a Unix datagram socket such as ``/dev/log``.

    The kernel loses no such datagram: a full queue makes sending fail.

    Args:
        path: The socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        """Check that the socket can be used.

        Raises:
            ConfigError: It cannot.
        """
        try:
            self.check()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError("audit.syslog", [f"{self._path} cannot be used: {reason}"]) from error

    def check(self) -> None:
        """Check that somebody receives.

        Raises:
            OSError: Nobody does.
        """
        self._connected().close()

    def write(self, line: str) -> None:
        """Send a record.

        Raises:
            OSError: It cannot be sent.
        """
        with self._connected() as connected:
            connected.send(message_of(line))

    def flush(self) -> None:
        """Do nothing: nothing is kept."""

    def close(self) -> None:
        """Do nothing: nothing is kept."""

    def _connected(self) -> socket.socket:
        # For each record: the receiver may have been restarted.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.settimeout(SYSLOG_LOCAL_TIMEOUT)
            sock.connect(str(self._path))
        except BaseException:
            sock.close()
            raise
        return sock


def context_of(config: SyslogConfig) -> ssl.SSLContext:
    """The TLS context, from the files as they are now.

    Raises:
        OSError: A file cannot be read, or is not valid.
    """
    context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.certificate is not None:
        context.load_cert_chain(config.certificate, config.private_key)
    return context


class TlsSyslog:
    """Sends over TLS (RFC 5425), in a thread of its own.

    `write` accepts a record only while there is a connection on which no record has waited longer
    than `SYSLOG_TIMEOUT` for TCP's acknowledgement, so that no capture starts without a receiver.

    Args:
        config: The section ``audit.syslog``, with a host.
    """

    def __init__(self, config: SyslogConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._sent: deque[bytes] = deque()  # not yet acknowledged
        self._trouble = "not connected yet"
        self._stopped = False
        self._tried = threading.Event()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)

    # --- for the daemon's thread ------------------------------------------------

    def open(self) -> None:
        """Connect; if the server is not there within `SYSLOG_TIMEOUT`, the thread tries again.

        Raises:
            ConfigError: A file of the configuration cannot be used.
        """
        try:
            context_of(self._config)
        except OSError as error:
            raise ConfigError("audit.syslog", [str(error)]) from error
        threading.Thread(target=self._run, name="audit-syslog", daemon=True).start()
        self._tried.wait(SYSLOG_TIMEOUT)

    def check(self) -> None:
        """Check that records can be sent.

        Raises:
            OSError: They cannot.
        """
        if self._trouble:
            raise OSError(errno.ENOTCONN, f"syslog at {self._where}: {self._trouble}")

    def write(self, line: str) -> None:
        """Send a record soon.

        Raises:
            OSError: There is no connection, or too many records wait.
        """
        message = message_of(line)
        with self._lock:
            self.check()
            if len(self._waiting) + len(self._sent) >= AUDIT_QUEUE_MAX:
                raise OSError(errno.ENOBUFS, f"syslog at {self._where}: too many records wait")
            # RFC 5425, section 4.3: the length in octets, and a space.
            self._waiting.append(b"%d %s" % (len(message), message))
        self._ring()

    def flush(self) -> None:
        """Do nothing: the thread sends at once."""

    def close(self) -> None:
        """Wait until everything is acknowledged, at most `SYSLOG_TIMEOUT`."""
        until = time.monotonic() + SYSLOG_TIMEOUT
        while (self._waiting or self._sent) and not self._trouble and time.monotonic() < until:
            time.sleep(_SOON)
        self._stopped = True
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it rings already
            self._bell.send(b"!")

    @property
    def _where(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    # --- the thread -------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            try:
                with self._connect() as connection:
                    self._trouble = ""
                    self._tried.set()
                    self._serve(connection)
            except OSError as error:
                self._trouble = error.strerror or str(error)
            self._tried.set()
            with self._lock:
                self._waiting.extendleft(reversed(self._sent))
                self._sent.clear()
            time.sleep(SYSLOG_RETRY)

    def _connect(self) -> ssl.SSLSocket:
        host = self._config.host or ""
        plain = socket.create_connection((host, self._config.port), SYSLOG_TIMEOUT)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SYSLOG_TIMEOUT * 1000))
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
                plain.setsockopt(socket.IPPROTO_TCP, option, max(1, int(SYSLOG_TIMEOUT / 2)))
            name = self._config.server_name or host
            return context_of(self._config).wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise

    def _serve(self, connection: ssl.SSLSocket) -> None:
        """Send until the connection fails."""
        sent_at = 0.0
        while not self._stopped:
            with self._lock:
                batch = list(self._waiting)
                self._sent.extend(batch)
                self._waiting.clear()
            if batch:
                sent_at = time.monotonic()
                connection.settimeout(SYSLOG_TIMEOUT)
                connection.sendall(b"".join(batch))
            if self._sent and _unacknowledged(connection) == 0:
                with self._lock:
                    self._sent.clear()
            if self._sent and time.monotonic() - sent_at > SYSLOG_TIMEOUT:
                raise TimeoutError(errno.ETIMEDOUT, "it does not acknowledge records")
            ready, _, _ = select.select([connection, self._ear], [], [], _SOON if self._sent else _LATER)
            if self._ear in ready:
                self._ear.recv(4096)
            if connection in ready:
                _check_open(connection)


def _unacknowledged(connection: ssl.SSLSocket) -> int:
    """Bytes that the receiver's kernel has not acknowledged (SIOCOUTQ of tcp(7))."""
    found: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return found


def _check_open(connection: ssl.SSLSocket) -> None:
    # A receiver sends nothing but TLS's own messages, and the end.
    connection.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        if not connection.recv(4096):
            raise ConnectionError(errno.ECONNRESET, "it has closed the connection")
