"""Every place where a capture's packets go, chosen before it starts."""

from __future__ import annotations

import contextlib
import select
import stat
from pathlib import Path
from typing import Callable, List, Optional, Tuple

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


#: One line for each kind of sink, in the order in which they are given a piece: lines come
#: last, because the file must not miss what a terminal refuses.
KINDS: Tuple[Kind, ...] = (
    _server,
    open_files,
    _printer,
)


class Sinks:
    """See the module.

    Args:
        options: What is wanted.
        closing: See `Closing`; the muxer's.

    Attributes:
        form: Of the files.
        inventory: The files there are.
        kept: Whether the packets are kept at all.
        live: Whether somebody may read packets as they come: from a pipe, a connection or as lines.
        last: What the files were to take last.

    Raises:
        PcapdError: One of them cannot be; said before anything starts.
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
        """Give pieces to each sink that still takes them, also when one fails; that gets nothing more.

        Raises:
            PcapdError: One of them fails.
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
        """The one for readers on the network."""
        return next((sink for sink in self._all if isinstance(sink, Server)), None)

    def watch(self, poll: select.poll) -> None:
        """Register what may wake up the loop."""
        for sink in self._all:
            sink.watch(poll)

    def close(self) -> None:
        """End all of them, also when one fails; files first.

        Raises:
            OutputError: A file's end could not be kept.
        """
        with contextlib.ExitStack() as stack:
            for sink in self._all:
                stack.callback(sink.close)

    def discard(self) -> None:
        """Remove the files that we made and that hold no packet."""
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
