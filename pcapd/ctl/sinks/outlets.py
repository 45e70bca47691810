"""Everywhere a capture's packets go: files, readers on the network, a terminal."""

from __future__ import annotations

import contextlib
import select
from typing import List, Optional

from pcapd.ctl.options import NOWHERE, CaptureOptions
from pcapd.ctl.sinks.files import Closing, Files, open_files
from pcapd.ctl.sinks.printing import Printer
from pcapd.ctl.sinks.serving import Server
from pcapd.merge.muxer import Piece

__all__ = ["Outlets"]


class Outlets:
    """See the module.

    Args:
        options: What is wanted.
        closing: Of the assembly.

    Raises:
        PcapdError: One of them cannot be; said before anything starts.
    """

    def __init__(self, options: CaptureOptions, closing: Closing) -> None:
        self.files: Files = open_files(options, closing)
        self.form = options.form
        #: Whether the packets are kept at all.
        self.kept = options.output != NOWHERE
        #: What was to be written last.
        self.last: List[Piece] = []
        self.server: Optional[Server] = None
        if options.files.serve is not None:
            self.server = Server(*options.files.serve)
        self._printer = Printer(json=options.json) if options.files.print else None

    def watch(self, poll: select.poll) -> None:
        """What may wake up the loop."""
        if self.server is not None:
            self.server.watch(poll)

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Give pieces to all of them.

        Args:
            now: Seconds of a steady clock.
            last: Nothing follows.

        Raises:
            OutputError: Not all of them are in the file.
            PrintingFailed: They are, but nobody reads the lines.
        """
        if self.server is not None:
            self.server.write(pieces)
        self.files.write(pieces, now, last=last)
        self.files.tick(now)
        if self._printer is not None:  # the file first: it must not miss what a terminal refuses
            self._printer.write(pieces)

    def close(self) -> None:
        """End all of them.

        Raises:
            OutputError: A file's end could not be kept.
        """
        with contextlib.ExitStack() as both:
            if self.server is not None:
                both.callback(self.server.close)
            self.files.close()
