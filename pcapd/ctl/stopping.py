"""What stops a capture from outside: signals, and the exit of the program that started pcapctl.

The first Ctrl-C or SIGTERM stops the capture in good order; the second leaves at once.
SIGHUP stops in good order however often it comes: when a terminal closes, both the kernel and
the shell send it.  If it was ignored when pcapctl started (``nohup``), it stays ignored.

pcapctl continues when the shell that started it exits, like any background job.  Under the
cf CLI or Wireshark the user would not see that the capture continues, so pcapctl stops
when that program exits.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

if TYPE_CHECKING:
    import socket

__all__ = ["LeaveNow", "Parent", "Postponed", "Stops"]

#: Seconds between two looks for a signal, while nothing else happens.
_LOOK = 0.1


class LeaveNow(BaseException):
    """The second Ctrl-C."""


class Parent:
    """The program that started pcapctl and whose exit stops it.  Create this first of all.

    Args:
        name: Its name, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.gone = False
        self._pid = os.getppid()
        self._lifeline: Optional[socket.socket] = None
        self._poll: Optional[select.poll] = None

    def hold(self, lifeline: socket.socket) -> None:
        """Keep a connection to the program: when it closes, the program is gone."""
        lifeline.setblocking(False)
        self._lifeline = lifeline

    def watch(self, poll: select.poll) -> None:
        """Register what should wake up the loop."""
        if self._lifeline is not None:
            self._poll = poll
            poll.register(self._lifeline, select.POLLIN)

    def look(self) -> bool:
        """Whether the program is gone: our parent has changed, or the connection has closed."""
        if not self.gone and (os.getppid() != self._pid or self._ended()):
            self.gone = True
            self._let_go()
        return self.gone

    def _ended(self) -> bool:
        try:
            return self._lifeline is not None and not self._lifeline.recv(4096)
        except BlockingIOError:
            return False
        except OSError:  # reset
            return True

    def _let_go(self) -> None:
        if self._lifeline is not None:
            if self._poll is not None:
                self._poll.unregister(self._lifeline)
            self._lifeline.close()
            self._lifeline = None


class Stops:
    """Collects the reasons to stop, and wakes up poll.

    Args:
        parent: The program whose exit stops the capture, if any.
    """

    def __init__(self, parent: Optional[Parent] = None) -> None:
        self._parent = parent
        self._signalled = ""
        self._impatience = 0
        #: The capture has not started, so even the first Ctrl-C leaves at once.
        self.leave_at_once = True
        #: The capture is finished: a second Ctrl-C has no effect.
        self.left = False
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    @property
    def parented(self) -> bool:
        """Whether another program shares the terminal: Ctrl-C ends it too, and the shell returns."""
        return self._parent is not None

    @property
    def presses(self) -> int:
        """Number of Ctrl-C and SIGTERM received so far."""
        return self._impatience

    @property
    def reason(self) -> str:
        """Why to stop, as text; empty while there is no reason."""
        if not self._signalled and self._parent is not None and self._parent.look():
            return f"{self._parent.name} is gone"
        return self._signalled

    def watch(self, poll: select.poll) -> None:
        """Register what should wake up the loop."""
        poll.register(self._read_fd, select.POLLIN)
        if self._parent is not None:
            self._parent.watch(poll)

    def drain(self, ready: List[Tuple[int, int]]) -> None:
        """Empty the pipe that woke up the loop, if it was this one.

        Args:
            ready: The result of poll.
        """
        if any(fd == self._read_fd for fd, _ in ready):
            with contextlib.suppress(BlockingIOError):
                os.read(self._read_fd, 512)

    def __enter__(self) -> Stops:
        self._wakeup = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._caught) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # Further signals do not turn our exit status into their own.
            signal.signal(number, signal.SIG_IGN if self._signalled else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _caught(self, number: int, frame: Any) -> None:
        hung_up = number == signal.SIGHUP
        self._signalled = self._signalled or ("hung up" if hung_up else "interrupted")
        self._impatience += not hung_up
        if self.leave_at_once or (self._impatience == 2 and not self.left):
            raise LeaveNow


class Postponed:
    """Signals that would stop pcapctl are only counted, so that something can be undone first.

    `Stops` may be entered inside; afterwards it depends on `Stops` whether signals still count.
    """

    def __init__(self) -> None:
        #: The number of signals so far.
        self.count = 0

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the next signal."""
        count, until = self.count, time.monotonic() + seconds
        while self.count == count and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))

    def __enter__(self) -> Postponed:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._caught) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # `Stops` has left the signals ignored if there was one.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_IGN if self.count else handler)

    def _caught(self, number: int, frame: Any) -> None:
        self.count += 1
