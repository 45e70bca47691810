"""Makes outgoing connections: TCP first, then TLS on the same socket."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from OpenSSL import SSL

from pcapd.errors import PcapdError
from pcapd.net.reactor import SocketReactor
from pcapd.net.sockets import as_address
from pcapd.net.transport import TLSTransport, Verify

__all__ = ["connect_tls", "outgoing_socket"]


class _OutgoingTransport(TLSTransport):
    """A transport whose TCP connection is not yet established."""

    awaits = "TCP connection"
    _connecting = True

    def about_to_shake_hands(self) -> None:
        """Check the result of the TCP connection.  Called when the socket is writable."""
        if not self._connecting:
            return
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._peer = as_address(self.socket.getpeername())
        self._host = as_address(self.socket.getsockname())
        self._connecting = False
        self.awaits = TLSTransport.awaits


def outgoing_socket(host: str) -> socket.socket:
    """Make a socket for one outgoing connection.

    Args:
        host: The IP address to which it will connect.

    Raises:
        OSError: The process has no file descriptor left.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def connect_tls(  # noqa: PLR0917
    reactor: SocketReactor,
    sock: socket.socket,
    address: tuple[str, int],
    protocol: Any,
    context: SSL.Context,
    verify: Verify,
    timeout: float,
) -> TLSTransport:
    """Connect a socket and start TLS; the protocol is notified of success or failure."""
    connection = SSL.Connection(context, sock)
    connection.set_connect_state()
    code = sock.connect_ex(address)
    transport = _OutgoingTransport(reactor, sock, protocol, connection, verify, peer=None, timeout=timeout)
    protocol.makeConnection(transport)
    if code not in (0, errno.EINPROGRESS):
        transport.stopReading()
        transport.stopWriting()
        reactor.callLater(0, transport._lose, PcapdError(os.strerror(code)))
    return transport
