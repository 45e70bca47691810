"""Listening ports that accept a bounded number of connections, in clear or with `TLSTransport`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.limits import CONNECTIONS_MAX
from pcapd.net.transport import TLSTransport, Verify

__all__ = ["BoundedPort", "TLSPort"]

_ACCEPTS = 100  # connections per wake-up
_TELL_INTERVAL = 10.0  # seconds between warnings that a port is full


class BoundedPort(tcp.Port):
    """A listening port that stops accepting while `limits.CONNECTIONS_MAX` are open.

    New ones wait in the kernel's queue meanwhile, and get in when others leave.
    """

    log = Logger()
    limit = CONNECTIONS_MAX

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.open = 0
        self._told_at: float | None = None

    def transport(  # type: ignore[override]  # a class there, its factory here
        self, sock: socket.socket, protocol: Any, *args: Any
    ) -> Any:
        """Build the transport of an accepted connection (`tcp.Port` calls this)."""
        self._opened()
        return _CountedServer(sock, protocol, *args)

    def _opened(self) -> None:
        self.open += 1
        if self.open >= self.limit:
            self.stopReading()
            self._tell_that_it_is_full()

    def doRead(self) -> None:
        """Accept those who wait, but no more than the limit in one go."""
        self.numberAccepts = max(1, min(_ACCEPTS, self.limit - self.open))
        super().doRead()

    def _tell_that_it_is_full(self) -> None:
        # A flood comes and goes within the limit many times a second.
        now = time.monotonic()
        if self._told_at is None or now - self._told_at >= _TELL_INTERVAL:
            self._told_at = now
            self.log.warn(
                "{limit} connections to port {port} are open, which is the limit: others wait",
                limit=self.limit,
                port=self.getHost().port,
            )

    def closed(self) -> None:
        """One of them is gone."""
        self.open -= 1
        if self.connected and self.open < self.limit:
            self.startReading()


class _CountedServer(tcp.Server):
    server: BoundedPort

    def connectionLost(self, reason: Failure) -> None:
        counted = hasattr(self, "socket")
        super().connectionLost(reason)
        if counted:
            self.server.closed()


class TLSPort(BoundedPort):
    """A listening port whose connections are `TLSTransport`.

    Args:
        context: Called per connection, so that renewed certificates are used at once.
        verify: Called after each handshake.
    """

    def __init__(  # noqa: PLR0917
        self,
        port: int,
        factory: Any,
        interface: str,
        reactor: Any,
        context: Callable[[], SSL.Context],
        verify: Verify | None = None,
    ) -> None:
        super().__init__(port, factory, interface=interface, reactor=reactor)
        self._context = context
        self._verify = verify

    def transport(  # type: ignore[override]  # a class there, its factory here
        self, sock: socket.socket, protocol: Any, *args: Any
    ) -> Any:
        """Build the transport of an accepted connection (`tcp.Port` calls this)."""
        connection = SSL.Connection(self._context(), sock)
        connection.set_accept_state()
        transport = TLSTransport(
            self.reactor, sock, protocol, connection, self._verify, peer=args[0], on_close=self.closed
        )
        self._opened()  # now that it will be closed, too
        return transport
