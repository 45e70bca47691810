"""The user's terminal, where ssh asks for passwords and about host keys.

ssh opens the terminal itself.  So pcapctl only says for which host a question comes, and restores
the terminal if an ssh that was killed has left it without echo.
"""

from __future__ import annotations

import contextlib
import os
import termios
from typing import Any, List, Optional

from pcapd.ctl.display.text import escape

__all__ = ["Questions"]


class Questions:
    """See the module.  Use `open`.

    Args:
        fd: The terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._attributes: List[Any] = termios.tcgetattr(fd)

    @classmethod
    def open(cls) -> Optional[Questions]:
        """The terminal, or None: there is none, or pcapctl is not in its foreground."""
        try:
            fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        with contextlib.suppress(OSError, termios.error):
            if _in_foreground(fd):
                return cls(fd)
        os.close(fd)
        return None

    def tell(self, text: str) -> None:
        """Write a line, for example for which host a question comes: ssh's own have only an address."""
        with contextlib.suppress(OSError):
            os.write(self._fd, f"{escape(text)}\n".encode())

    def restore(self) -> None:
        """Give the terminal the attributes that it had at first."""
        with contextlib.suppress(OSError, termios.error):
            # In the background, this would stop pcapctl.
            if _in_foreground(self._fd):
                termios.tcsetattr(self._fd, termios.TCSANOW, self._attributes)

    def close(self) -> None:
        """Let go of the terminal."""
        os.close(self._fd)


def _in_foreground(fd: int) -> bool:
    return os.tcgetpgrp(fd) == os.getpgrp()
