"""Socket options, addresses, and error messages."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address

from pcapd.errors import PcapdError, PeerIdentityError
from pcapd.limits import TCP_KEEPALIVE

__all__ = ["as_address", "corked", "tune", "why_lost"]


def why_lost(error: Exception, reason: str = "") -> Exception:
    """Describe an error of OpenSSL or the kernel in one sentence.

    Args:
        error: The error.
        reason: Why the peer's certificate was not accepted; empty if it was.
    """
    if isinstance(error, SSL.SysCallError) or not isinstance(error, SSL.Error):
        code = error.args[0] if error.args else 0
        if not isinstance(code, int) or code in (-1, 0):
            return PcapdError("the connection was closed without TLS close_notify")
        return PcapdError(os.strerror(code) if code != errno.EPIPE else "the peer closed the connection")
    message = "; ".join(entry[-1] or entry[0] for entry in error.args[0]) if error.args else "TLS failed"
    if "alert" in message:
        return PeerIdentityError(f"the peer refused our certificate or handshake: {message}")
    if "certificate" in message:
        return PeerIdentityError(f"the peer's certificate is not accepted: {reason or message}")
    return PcapdError(f"TLS: {message}")


def as_address(name: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    """Twisted's form of a socket's address."""
    if len(name) == 4:
        return IPv6Address("TCP", *name)
    return IPv4Address("TCP", *name)


def tune(sock: socket.socket) -> None:
    """Set socket options: send small segments without delay, and detect a dead peer by keep-alive."""
    idle, interval, probes = TCP_KEEPALIVE
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)


@contextlib.contextmanager
def corked(sock: socket.socket) -> Iterator[None]:
    """In this context, written bytes are sent in few, full segments (TCP_CORK), which wake the peer once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
