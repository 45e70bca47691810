"""Files for each instance (``--split-by instance``)."""

from __future__ import annotations

from typing import Callable, Dict, List

from pcapd.ctl.sinks.output import OutputError
from pcapd.ctl.sinks.single import FileSink
from pcapd.merge.muxer import Piece

__all__ = ["FilesPerInstance"]


class FilesPerInstance(FileSink):
    """Passes each piece to the files of its instance.

    Args:
        make: Creates the files of an instance.
    """

    def __init__(self, make: Callable[[str], FileSink]) -> None:
        self._make = make
        self._sinks: Dict[str, FileSink] = {}

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Write pieces, each to its file.

        Raises:
            OutputError: Some could not be written; every file ends with a whole block.
        """
        streams: Dict[str, List[Piece]] = {}
        for piece in pieces:
            streams.setdefault(piece.stream, []).append(piece)
        left = sum(piece.packets for piece in pieces)
        for stream, own in streams.items():
            try:
                sink = self._sinks.get(stream)
                if sink is None:
                    sink = self._sinks[stream] = self._make(stream)
                left -= sum(piece.packets for piece in own)
                sink.write(own, now, last=last)
            except OutputError as error:
                error.unwritten += left
                raise
        self.tick(now)

    def tick(self, now: float) -> None:
        """Let the files of each instance act on time.

        Raises:
            OutputError: The end of a file could not be written.
        """
        for sink in self._sinks.values():
            sink.tick(now)

    def close(self) -> None:
        """Close all files.

        Raises:
            OutputError: The system could not store what it had accepted.
        """
        failures: List[OutputError] = []
        for sink in self._sinks.values():
            try:
                sink.close()
            except OutputError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def discard(self) -> None:
        """Remove files that we created and that contain no packets."""
        for sink in self._sinks.values():
            sink.discard()
