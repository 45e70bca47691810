"""Decrypts received bytes directly into their final buffer.

pyOpenSSL's own `recv` and `recv_into` allocate a buffer and copy it for each TLS record of
16 KiB, which was half of the cost of receiving (docs/performance.rst).  So `decrypt` calls
OpenSSL through private attributes of pyOpenSSL; ``tests/unit/test_twisted_private.py`` lists them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from pcapd.net.sendqueue import RECORD

__all__ = ["SCRATCH", "BulkReceiver", "decrypt"]

#: Buffer for bytes whose final buffer is not known yet.  It is overwritten by the next call.
SCRATCH = memoryview(bytearray(RECORD))
_NOTHING_MORE = SSL.WantReadError()


@runtime_checkable
class BulkReceiver(Protocol):
    """A protocol that receives many bytes, and provides the buffer for them."""

    def dataReceived(self, data: memoryview) -> None:
        """Handle received bytes; their buffer is overwritten after the call."""

    def room(self) -> memoryview | None:
        """The buffer for the next bytes; None if it is not known yet."""

    def filled(self, count: int) -> None:
        """Handle `count` bytes received into `room`."""


def decrypt(connection: SSL.Connection, room: memoryview) -> tuple[int, Exception | None]:
    """Receive and decrypt bytes until none are available or the buffer is full.

    Returns:
        The number of received bytes, and pyOpenSSL's exception that shows why there are no more;
        None if the buffer is full.
    """
    tls, size, count = connection._ssl, len(room), 0
    with ffi.from_buffer(room) as begin:
        while count < size:
            result = lib.SSL_read(tls, begin + count, size - count)
            if result <= 0:
                return count, _why_not(connection, result)
            count += result
    return count, None


def _why_not(connection: SSL.Connection, result: int) -> Exception:
    if lib.SSL_get_error(connection._ssl, result) == lib.SSL_ERROR_WANT_READ:
        return _NOTHING_MORE  # the usual case: one constant object, because a new one costs time
    try:
        connection._raise_ssl_error(connection._ssl, result)
    except (SSL.Error, OSError) as error:
        return error.with_traceback(None)  # the frames would refer to the caller, which keeps the error
    return SSL.ZeroReturnError()
