"""One deadline for a whole exchange with a server, even if each single read succeeds."""

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
        seconds: Seconds from now to the deadline.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self._at

    def left(self, most: float = math.inf) -> float:
        """Seconds to the deadline, for one step of the exchange.

        Args:
            most: Upper limit of the result.

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
    # Not SSLSocket's own method, which would discard the TLS state while another thread reads.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
