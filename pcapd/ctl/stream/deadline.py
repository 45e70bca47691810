"""One deadline for a whole exchange with a server, however slowly its bytes arrive."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import Iterator

__all__ = ["Deadline"]


class Deadline:
    """The time by which an exchange must be finished.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self._at

    def left(self, most: float = math.inf) -> float:
        """Seconds that one step of the exchange may take.

        Args:
            most: Upper limit.

        Raises:
            socket.timeout: The deadline has passed.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        return min(left, most)

    @contextlib.contextmanager
    def shuts(self, connection: socket.socket) -> Iterator[None]:
        """Within the context, shut the connection down at the deadline, which ends a read in progress."""
        timer = threading.Timer(max(0.0, self._at - time.monotonic()), _shut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut(connection: socket.socket) -> None:
    # With the plain class: SSLSocket's own method would discard the TLS state that the reader uses.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
