"""A terminal for a process: a real pty, and pyte, which shows what a person would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import threading
import time
from types import TracebackType
from typing import Any, Optional, Sequence

import pyte

from demo.processes import wait_until


class Terminal:
    """A pty of some size.

    Args:
        columns: Its width.
        lines: Its height.

    Attributes:
        raw: All that was written to it and read by us.
        slave: The end for the process.
    """

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._thread: Optional[threading.Thread] = None
        self._closing = False
        self.raw = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.hang_up()
        if self._thread is not None:
            self._thread.join(10)
        self._close()

    def hang_up(self) -> None:
        """Close our copy of the process's end: reading ends with the last process."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def start(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process whose stderr is the terminal."""
        return subprocess.Popen(argv, stderr=self.slave, stdin=subprocess.DEVNULL, **options)

    def log_in(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process that has it as its terminal, from which Ctrl-C and its end come."""
        streams = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        # Whoever runs the tests under nohup ignores SIGHUP, which children inherit.
        start = ["setsid", "--ctty", "env", "--default-signal=HUP"]
        process = subprocess.Popen([*start, *argv], **streams, **options)
        self.hang_up()
        return process

    def type(self, text: str) -> None:
        """What a person types."""
        os.write(self._master, text.encode())

    def shut(self) -> None:
        """Close it, as closing its window does: the processes whose terminal it is get SIGHUP."""
        self._closing = True
        if self._thread is not None:
            self._thread.join(10)  # a read under way would keep it open
        self._close()

    def _close(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def read(self) -> None:
        """Begin to read."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fill(self) -> None:
        """Write until it takes nothing more, as long as nobody reads."""
        os.set_blocking(self.slave, False)
        for _ in range(5):  # the kernel moves what it has taken to another place a moment later
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(self.slave, b".")
            time.sleep(0.02)
        os.set_blocking(self.slave, True)

    def resize(self, columns: int, lines: int) -> None:
        """Change its size, without what a terminal does to lines that do not fit."""
        with self._lock:
            fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            self._screen.resize(lines, columns)

    @property
    def echoes(self) -> bool:
        """Whether what is typed is shown, as it is where no password is asked for."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    @property
    def rows(self) -> list[str]:
        """What is to be seen."""
        with self._lock:
            return [row.rstrip() for row in self._screen.display]

    @property
    def text(self) -> str:
        """The same, as one."""
        return "\n".join(self.rows)

    def wait_for(self, *words: str, timeout: float = 30.0) -> list[str]:
        """Until all of these can be seen at once; returns the rows."""
        seen: list[str] = []

        def visible() -> bool:
            seen[:] = self.rows
            text = "\n".join(seen)
            return all(word in text for word in words)

        try:
            wait_until(visible, f"{words} on the screen", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.text}") from error
        return seen

    def _run(self) -> None:
        while not self._closing:
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the last process is gone
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
