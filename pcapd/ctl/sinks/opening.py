"""Creates the sinks of a capture before it starts."""

from __future__ import annotations

import contextlib
import select
import stat
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from pcapd.ctl.explaining.explainer import Explainer
from pcapd.ctl.options import NOWHERE, STDOUT, CaptureOptions
from pcapd.ctl.sinks.files import Closing, check_files, open_files
from pcapd.ctl.sinks.inventory import Inventory
from pcapd.ctl.sinks.printing import Printer
from pcapd.ctl.sinks.serving import Server
from pcapd.ctl.sinks.single import FileSink
from pcapd.ctl.sinks.sink import Sink
from pcapd.errors import PcapdError
from pcapd.merge.muxer import Piece

__all__ = ["KINDS", "Sinks"]

Kind = Callable[[CaptureOptions, Inventory, Closing], Optional[Sink]]


def _server(options: CaptureOptions, inventory: Inventory, closing: Closing) -> Optional[Sink]:
    return Server(*options.files.serve) if options.files.serve is not None else None


def _printer(options: CaptureOptions, inventory: Inventory, closing: Closing) -> Optional[Sink]:
    files = options.files
    return Printer(json=options.json, payload=files.payload) if files.print else None


def _explainer(options: CaptureOptions, inventory: Inventory, closing: Closing) -> Optional[Sink]:
    return Explainer(options) if options.files.explain else None


#: One line for each kind of sink, in the order in which pieces are passed to them.  Printing is
#: last, so that a failing terminal does not affect the file.
KINDS: Tuple[Kind, ...] = (
    _server,
    open_files,
    _explainer,
    _printer,
)


class Sinks:
    """See the module.

    Args:
        options: The options of the capture.
        closing: Returns the last statistics for a file, see `Closing`.

    Attributes:
        form: The file format.
        inventory: The list of files.
        kept: Whether the packets are written to a file or standard output.
        live: Whether a reader may be waiting for packets, at a pipe, a connection or a terminal.
        last: The pieces of the last write to the files.

    Raises:
        PcapdError: A sink cannot be created; checked before the capture starts.
    """

    def __init__(self, options: CaptureOptions, closing: Closing) -> None:
        check_files(options)
        self.form = options.form
        self.inventory = Inventory(options.output, several=options.files.several)
        self.kept = options.output != NOWHERE
        self.live = _live(options)
        self.last: List[Piece] = []
        made = [kind(options, self.inventory, closing) for kind in KINDS]
        self._all = [sink for sink in made if sink is not None]
        self._taking = list(self._all)

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Pass pieces to all sinks, even if one fails; a failed sink is not used any more.

        Raises:
            PcapdError: A sink failed.
        """
        failures: List[PcapdError] = []
        if any(isinstance(sink, FileSink) for sink in self._taking):
            self.last = pieces
        for sink in list(self._taking):
            try:
                sink.write(pieces, now, last=last)
            except PcapdError as error:
                self._taking.remove(sink)
                failures.append(error)
        if failures:
            raise failures[0]

    @property
    def server(self) -> Optional[Server]:
        """The sink for network readers, if any."""
        return next((sink for sink in self._all if isinstance(sink, Server)), None)

    @property
    def explainer(self) -> Optional[Explainer]:
        """The sink that explains the capture, if any."""
        return next((sink for sink in self._all if isinstance(sink, Explainer)), None)

    def watch(self, poll: select.poll) -> None:
        """Register the sockets that should wake up the loop."""
        for sink in self._all:
            sink.watch(poll)

    def close(self) -> None:
        """Close all sinks, even if one fails; files before network readers.

        Raises:
            OutputError: The end of a file could not be stored.
        """
        with contextlib.ExitStack() as stack:
            for sink in self._all:
                stack.callback(sink.close)

    def discard(self) -> None:
        """Remove files that pcapctl created and that contain no packets."""
        for sink in self._all:
            if isinstance(sink, FileSink):
                sink.discard()
        self.inventory.clear()


def _live(options: CaptureOptions) -> bool:
    files = options.files
    if files.print or files.serve is not None or options.output == STDOUT:
        return True
    try:
        mode = Path(options.output).stat().st_mode
    except OSError:  # it does not exist yet
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
