"""The interface of all outputs of a capture."""

from __future__ import annotations

import select
from typing import List

from pcapd.merge.muxer import Piece

__all__ = ["Sink"]


class Sink:
    """An output for the pieces of a capture."""

    def watch(self, poll: select.poll) -> None:
        """Register the sockets that should wake up the loop."""

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Write pieces before returning; also called regularly without pieces.

        Args:
            now: The time of a monotonic clock, seconds.
            last: Whether these are the last pieces.

        Raises:
            PcapdError: A piece could not be written; the capture ends.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Finish and close the output.

        Raises:
            PcapdError: The last data could not be stored.
        """
