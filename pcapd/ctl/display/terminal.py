"""Writing to a terminal without waiting for it, even if it does not read.

Lines scroll; below them is a region that is redrawn repeatedly.  A thread writes.
While the terminal blocks it (Ctrl-S, a stuck network), only the latest region and
a bounded number of lines are kept.  `say` is for streams that are not a terminal,
and waits for them.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Deque, List, NamedTuple, Optional, TextIO

from pcapd.limits import TERMINAL_LINE_MAX, TERMINAL_LINES_MAX, TERMINAL_PATIENCE, TURN_MAX
from pcapd.running import RunningTime

__all__ = ["Line", "Terminal", "say", "silence"]

#: Bytes per write: small, so that we see whether the terminal still takes them.
_PIECE = 512


def say(text: str, stream: TextIO) -> None:
    """Write a line; after the pipe or terminal was closed, discard everything for it.

    Otherwise Python's flush at exit would fail again and change the exit status.
    """
    try:
        stream.write(f"{text}\n")  # one write; print makes two, and another thread may write in between
        stream.flush()
    except OSError:
        silence(stream.fileno())


def silence(fd: int) -> None:
    """Redirect a descriptor to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)


class Line(NamedTuple):
    """One line with its escape sequences, and how many columns it takes."""

    text: str
    cells: int


class Terminal:
    """A terminal's output.

    Args:
        stream: The terminal; only its descriptor and its encoding are used.
        patience: Seconds for which `close` waits without progress.
    """

    def __init__(self, stream: TextIO, patience: float = TERMINAL_PATIENCE) -> None:
        self._fd = stream.fileno()
        self._encoding = stream.encoding or "ascii"
        self._patience = patience
        self._lines: Deque[str] = deque()
        self._omitted = 0
        self._region: Optional[List[Line]] = None  # None: as it is
        self._drawn: List[Line] = []
        self._writing = False
        self._taken = 0  # bytes
        self._broken = False
        self._changed = threading.Condition()
        self._thread: Optional[threading.Thread] = None

    @property
    def busy(self) -> bool:
        """Whether earlier output is still unwritten: a new region would not be seen."""
        return self._writing or self._region is not None

    def line(self, text: str) -> None:
        """Write a line above the region."""
        with self._changed:
            if len(self._lines) >= TERMINAL_LINES_MAX:
                self._lines.popleft()
                self._omitted += 1
            self._lines.append(text[:TERMINAL_LINE_MAX])
            self._start()

    def show(self, region: List[Line]) -> None:
        """Replace the content of the region."""
        with self._changed:
            self._region = region
            self._start()

    def leave(self) -> None:
        """Keep the region on the screen and continue below it: another program uses the terminal now."""
        with self._changed:
            self._region, self._drawn = None, []
            # Do not write on the line of the shell's prompt.
            self._lines.append("")
            self._start()

    def close(self) -> None:
        """Remove the region, and wait until everything is written or the terminal stops reading."""
        with self._changed:
            if self._thread is None:
                return
            self._region = []
            self._changed.notify_all()
            ran = RunningTime(TURN_MAX)  # does not count while we are suspended (Ctrl-Z)
            taken, since = self._taken, ran.at(time.monotonic())
            while (self._writing or self._pending) and not self._broken:
                self._changed.wait(0.1)
                now = ran.at(time.monotonic())
                if self._taken != taken:
                    taken, since = self._taken, now
                elif now - since > self._patience:
                    return

    @property
    def _pending(self) -> bool:
        return bool(self._lines) or self._region is not None

    def _start(self) -> None:
        if self._thread is None:
            # A daemon thread: it does not keep the process alive while it is blocked.
            self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._pending:
                    self._changed.wait()
                data = self._take()
                self._writing = True
            try:
                self._write(data)
            except OSError:  # the terminal was closed
                with self._changed:
                    self._broken = True
                    self._changed.notify_all()
                return

    def _take(self) -> bytes:
        """Take the output that is due."""
        region = self._drawn if self._region is None else self._region
        parts = [self._erase()]
        if self._omitted:
            parts.append(f"({self._omitted} lines are missing here: the terminal did not read)\n")
        parts += [f"{line}\n" for line in self._lines]
        parts += [f"{line.text}\n" for line in region]
        self._lines.clear()
        self._omitted, self._region, self._drawn = 0, None, region
        return "".join(parts).encode(self._encoding, "backslashreplace")

    def _erase(self) -> str:
        """Codes that go to the region's first line and clear from there, counting wrapped lines."""
        if not self._drawn:
            return ""
        try:
            width = max(1, os.get_terminal_size(self._fd).columns)
        except OSError:
            width = 80
        rows = sum(max(1, -(-line.cells // width)) for line in self._drawn)
        return f"\r\x1b[{rows}A\x1b[J"

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view[:_PIECE])
            view = view[count:]
            with self._changed:
                self._taken += count
