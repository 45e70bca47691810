"""The live table of one capture on its terminal, drawn at most twice a second."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO

from pcapd.ctl.display.progress import Meter, Totals, view
from pcapd.ctl.display.report import waiting_parts
from pcapd.ctl.display.table import Look, places, render
from pcapd.ctl.display.terminal import Terminal
from pcapd.ctl.options import CaptureOptions
from pcapd.ctl.stream.session import CaptureSession

__all__ = ["Live"]

_NAMES = 2  # largest number of sources named while the capture is stopping
_INTERVAL = 0.5  # seconds between two drawings; each takes some milliseconds, during which nothing is read


class Live:
    """See the module.

    Args:
        terminal: The terminal to draw on.
        stream: The same terminal as a stream, for its size.
        options: The options of the capture, for its limits.
    """

    def __init__(self, terminal: Terminal, stream: TextIO, options: CaptureOptions) -> None:
        self._terminal = terminal
        self._stream = stream
        self._options = options
        self._meter = Meter()
        self._shown_at = 0.0

    def show(self, capture: CaptureSession, size: int, now: float, findings: str = "") -> None:
        """Draw the table, if the interval is over, the terminal is ready, and pcapctl is in the foreground.

        Args:
            size: Bytes of the file.
            now: Seconds of the capture's clock.
            findings: See `Totals`.
        """
        if now - self._shown_at < _INTERVAL:
            return
        self._shown_at = now
        accounts = capture.muxer.accounts
        self._meter.sample(accounts, now)
        if self._terminal.busy or self.hidden:
            return
        look = self._look()
        progress = self._progress(capture, size, now, findings)
        self._terminal.show(render(view(accounts, capture.failed, self._meter, progress, places(look)), look))

    @property
    def hidden(self) -> bool:
        """Whether nothing is drawn because another program has the terminal."""
        return _in_background(self._stream.fileno())

    def _progress(self, capture: CaptureSession, size: int, now: float, findings: str) -> Totals:
        options = self._options
        waiting = capture.waiting(now)
        return Totals(
            seconds=None if capture.started is None else now - capture.started,
            duration=options.duration,
            size=size,
            max_size=options.max_bytes,
            written=capture.written,
            max_packets=options.count,
            awaited=capture.awaited,
            stopping=capture.reason,
            waiting=tuple(waiting_parts(waiting, _NAMES)) if waiting is not None else (),
            findings=findings,
        )

    def _look(self) -> Look:
        width, height = 80, 24
        with contextlib.suppress(OSError):
            width, height = os.get_terminal_size(self._stream.fileno())
        # A serial terminal may report no size.
        return Look(width or 80, height or 24, not os.environ.get("NO_COLOR"), _speaks_unicode(self._stream))


def _in_background(fd: int) -> bool:
    """Whether another program has the terminal, such as the shell that started pcapctl with ``&``."""
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:  # it is not the controlling terminal
        return False


def _speaks_unicode(stream: TextIO) -> bool:
    try:
        "▁█…·".encode(stream.encoding or "ascii")
    except UnicodeError:
        return False
    return True
