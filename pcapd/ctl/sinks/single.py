"""Writes everything to one file or to standard output."""

from __future__ import annotations

from typing import Callable, List, Optional

from pcapd.ctl.sinks.inventory import Inventory, Written
from pcapd.ctl.sinks.output import Output
from pcapd.ctl.sinks.sink import Sink
from pcapd.merge.muxer import Piece

__all__ = ["FileSink", "OpenFile", "SingleFile"]

#: Creates the output of a file by its number, from 1 on.
OpenFile = Callable[[int], Output]


class FileSink(Sink):
    """A sink that stores the packets in files."""

    def tick(self, now: float) -> None:
        """Act on time; `now` is in seconds of a monotonic clock.

        Raises:
            OutputError: The end of a file could not be written.
        """

    def discard(self) -> None:
        """Remove files that we created and that contain no packets."""
        raise NotImplementedError


class SingleFile(FileSink):
    """See the module.

    Args:
        output: The file.
        stream: The instance of the packets; empty for all instances.
        inventory: The list of files.
    """

    def __init__(self, output: Output, stream: str, inventory: Inventory) -> None:
        self._output = output
        self._stream = stream
        self._inventory = inventory
        self._written: Optional[Written] = None

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Write pieces.

        Raises:
            OutputError: Some could not be written; the file ends with a whole block.
        """
        if not pieces:
            return
        if self._written is None:
            self._written = self._inventory.begin(self._output.name, self._stream)
        packets = sum(piece.packets for piece in pieces)
        before = self._output.unwritten
        try:
            self._output.write([piece.data for piece in pieces])
        finally:
            packets -= self._output.unwritten - before
            self._inventory.grow(self._written, self._output.size, packets)
            if not self._output.opened:
                self._inventory.forget(self._written)
                self._written = None

    def close(self) -> None:
        """Close the file.

        Raises:
            OutputError: The system could not store what it had accepted.
        """
        written, before = self._written, self._output.unwritten
        try:
            self._output.close()
        finally:
            if written is not None:
                self._inventory.grow(written, self._output.size, before - self._output.unwritten)
                self._inventory.finish(written)

    def discard(self) -> None:
        """Remove the file if it contains no packets."""
        if self._written is None or not self._written.packets:
            self._output.discard()
