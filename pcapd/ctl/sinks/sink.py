"""What every place is that takes a capture's packets."""

from __future__ import annotations

import select
from typing import List

from pcapd.merge.muxer import Piece

__all__ = ["Sink"]


class Sink:
    """Takes pieces of a capture and writes them, before it returns."""

    def watch(self, poll: select.poll) -> None:
        """Register what may wake up the loop."""

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Write pieces; also called without any, so that a sink sees that time passes.

        Args:
            now: Seconds of a steady clock.
            last: Nothing follows.

        Raises:
            PcapdError: Not all of them are written; the capture ends.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was written.

        Raises:
            PcapdError: The end could not be kept.
        """
