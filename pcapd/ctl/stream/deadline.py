"""One deadline for a whole exchange with a server, however slowly its bytes come."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import Iterator

__all__ = ["Deadline"]


class Deadline:
    """When an exchange must be over.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """The time is up."""
        return time.monotonic() >= self._at

    def left(self, most: float = math.inf) -> float:
        """Seconds that one step of the exchange may take.

        Args:
            most: Not more than these.

        Raises:
            socket.timeout: There are none left.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        return min(left, most)

    @contextlib.contextmanager
    def shuts(self, connection: socket.socket) -> Iterator[None]:
        """While inside, shut the connection down when the time is up, which ends a read in progress."""
        timer = threading.Timer(max(0.0, self._at - time.monotonic()), _shut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut(connection: socket.socket) -> None:
    # By the plain class: an SSLSocket's own method would take its TLS state away from the reader.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
