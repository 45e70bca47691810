"""ssh as a child process: its pipes, and the heartbeat of all children.

The child ignores Ctrl-C and a hang-up, which reach every process of the terminal: pcapctl
stops the capture, and packets that were captured must still arrive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import threading
import time
from typing import Callable, Final, List, Optional, Sequence

from pcapd.errors import PcapdError

__all__ = ["Child", "Heartbeat", "close_all"]

#: bytes of the pipe from ssh, where the system permits it: fewer, larger reads.
_PIPE: Final = 1024 * 1024
_F_SETPIPE_SZ: Final = 1031  # fcntl.F_SETPIPE_SZ, from Python 3.10 on
_IGNORING: Final = ("sh", "-c", 'trap "" INT HUP QUIT; exec "$@"', "sh")
#: Seconds between two heartbeats.
_INTERVAL: Final = 1.0
#: Seconds from the exit of a child to the end of its outputs.
_LINGER: Final = 2.0
#: Seconds for all children to end by themselves after SIGTERM.
_PATIENCE: Final = 1.0


class Child:
    """One child.

    Args:
        words: The program and its arguments.

    Raises:
        PcapdError: The program cannot be run.
    """

    def __init__(self, words: Sequence[str]) -> None:
        if shutil.which(words[0]) is None:
            raise PcapdError(f"the program {words[0]} is not installed", "install it, or check PATH")
        pipe = subprocess.PIPE
        try:
            # The shell's script is fixed, and the words are its arguments.
            self._process = subprocess.Popen(  # noqa: S603
                [*_IGNORING, *words], stdin=pipe, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            raise PcapdError(f"cannot run {words[0]}: {error.strerror}") from error
        process = self._process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._stdin: Optional[int] = process.stdin.fileno()
        #: Descriptors of the outputs that have not ended; the first is stdout.
        self.outputs: List[int] = [process.stdout.fileno(), process.stderr.fileno()]
        self.stdout, self.stderr = self.outputs
        self._exited_at: Optional[float] = None
        for fd in (self._stdin, *self.outputs):
            os.set_blocking(fd, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.stdout, _F_SETPIPE_SZ, _PIPE)

    def watch(self, poll: select.poll) -> None:
        """Register the outputs, which should wake up the loop."""
        for fd in self.outputs:
            poll.register(fd, select.POLLIN)

    def read(self, fd: int, buffer: memoryview, poll: select.poll) -> Optional[memoryview]:
        """Read what is there from one output; None if there is nothing, empty at its end.

        Args:
            fd: `stdout` or `stderr`.
            buffer: Where to put the bytes.
            poll: Where the output is registered; no longer after its end.
        """
        if fd not in self.outputs:
            return None
        try:
            count = os.readv(fd, [buffer])
        except BlockingIOError:
            return None
        except OSError:
            count = 0
        if not count:
            self.outputs.remove(fd)
            poll.unregister(fd)
        return buffer[:count]

    def write(self, data: bytes) -> bytes:
        """Write to its stdin without waiting; return the bytes that are left."""
        try:
            return data[os.write(self._stdin, data) :] if data and self._stdin is not None else b""
        except BlockingIOError:
            return data
        except OSError:  # it has ended
            return b""

    def status(self, now: float, poll: select.poll) -> Optional[int]:
        """Its exit status once it and its outputs have ended; None before.

        Another process, such as one that a login file started, may hold the outputs: they are
        read no longer than `_LINGER` after the exit.
        """
        status = self._process.poll()
        if status is None:
            return None
        if self._exited_at is None:
            self._exited_at = now
        if self.outputs and now - self._exited_at >= _LINGER:
            for fd in self.outputs:
                poll.unregister(fd)
            self.outputs.clear()
        return status if not self.outputs else None

    def hang_up(self) -> None:
        """Close its stdin: the far side stops at the end of its stdin."""
        if self._stdin is not None and self._process.stdin is not None:
            self._stdin = None
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def terminate(self) -> None:
        """Ask it to end; an ssh that waits for a password restores the terminal before."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended; when the time is over, end it at once."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close_pipes(self) -> None:
        """Close its pipes."""
        self.hang_up()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def close_all(children: Sequence[Child]) -> None:
    """End these children, at the latest after `_PATIENCE`, and close their pipes."""
    for child in children:
        child.close_pipes()
        child.terminate()
    until = time.monotonic() + _PATIENCE
    for child in children:
        child.wait(max(0.0, until - time.monotonic()))


class Heartbeat:
    """Calls a function once a second in a thread of its own.

    The far side ends when it hears nothing.  The loop of pcapctl cannot send heartbeats, because
    a reader of its output, such as a pager, may block it for any time.

    Args:
        beat: The function; it must not block.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._over = threading.Event()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(_INTERVAL):
            self._beat()

    def stop(self) -> None:
        """Call it no more."""
        self._over.set()
