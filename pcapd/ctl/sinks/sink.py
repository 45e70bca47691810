"""The interface of everything that takes a capture's packets."""

from __future__ import annotations

import select
from typing import List

from pcapd.merge.muxer import Piece

__all__ = ["Sink"]


class Sink:
    """Takes pieces of a capture, and writes them before it returns."""

    def watch(self, poll: select.poll) -> None:
        """Register what should wake up the loop."""

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Write pieces; also called without any, so that a sink can act on time.

        Args:
            now: Seconds of a monotonic clock.
            last: These are the last pieces.

        Raises:
            PcapdError: Some could not be written; the capture ends.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was written.

        Raises:
            PcapdError: The end could not be stored.
        """
