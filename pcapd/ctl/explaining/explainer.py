"""Explains a capture while it runs (``--explain``), in another process.

That process (`pcapd.ctl.explaining.process`) gets every piece of output over a pipe.  What it
cannot accept yet waits in a backlog of `EXPLAIN_BACKLOG` bytes.  When the backlog is full,
packets are skipped and counted until half of it is free, and the analysis starts anew.
The final result is then made from the file, if there is one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, Final, List, Optional

from pcapd.ctl.explaining.process import ANEW, DATA, FRAME
from pcapd.ctl.options import NOWHERE, STDOUT, CaptureOptions
from pcapd.ctl.sinks.sink import Sink
from pcapd.limits import EXPLAIN_BACKLOG, EXPLAIN_RESULT_MAX
from pcapd.merge.muxer import HEADERS, Kind, Piece

__all__ = ["Explained", "Explainer"]

#: Runs the process with the module path of this one, which may be a zip file.
_START: Final = (
    "import sys; count = int(sys.argv[1]); sys.path[:] = sys.argv[2:2 + count]; del sys.argv[1:2 + count]; "
    "from pcapd.ctl.explaining.process import main; main()"
)
#: bytes that the pipe may hold, where the system allows it (Linux: /proc/sys/fs/pipe-max-size).
_PIPE: Final = 1024 * 1024
#: fcntl's F_SETPIPE_SZ, which Python names from 3.10 on.
_SET_PIPE_SIZE: Final = 1031
#: seconds between two calls of the caller while it waits for the result.
_TURN: Final = 0.1
#: Variables that the process does not need.
_SECRETS: Final = ("PCAP_TOKEN",)


@dataclass
class Explained:
    """The result.

    Attributes:
        lines: It as text.
        facts: It as a JSON object (docs/explain.rst); None if there is none.
        skipped: Number of packets that it does not take into account.
        problem: Why there is no result; empty if there is one.
    """

    lines: List[str] = field(default_factory=list)
    facts: Optional[Dict[str, Any]] = None
    skipped: int = 0
    problem: str = ""


class Explainer(Sink):
    """See the module.

    Args:
        options: The options of the capture.

    Attributes:
        skipped: Number of packets that could not be passed on.
    """

    def __init__(self, options: CaptureOptions) -> None:
        files = options.files
        self._contents = files.contents
        self._kept = options.output not in (NOWHERE, STDOUT)
        self._rotated = bool(files.rotation)
        self._headers: List[bytes] = []
        self._skipping = False
        self.skipped = 0
        name = options.output if self._kept else "-"
        # With --split-by there is no stream of all packets in order.
        self._process = (
            None if files.split else _Process([name], self._contents, stream=True, numbered=not self._rotated)
        )

    @property
    def text(self) -> str:
        """The number of findings so far, in words."""
        process = self._process
        if process is None or process.failed:
            return "findings at the end"
        parts = [
            f"{count} {name}{'s' if count > 1 else ''}"
            for name, count in (("error", process.errors), ("warning", process.warnings))
            if count
        ]
        skipped = f" ({self.skipped} packets skipped)" if self.skipped else ""
        return f"findings: {', '.join(parts) or 'none so far'}{skipped}"

    @property
    def counts(self) -> Dict[str, int]:
        """The number of findings so far, and of skipped packets, for scripts."""
        errors, warnings = (
            (self._process.errors, self._process.warnings) if self._process is not None else (0, 0)
        )
        return {"errors": errors, "warnings": warnings, "skipped": self.skipped}

    def write(self, pieces: List[Piece], now: float = 0.0, *, last: bool = False) -> None:
        """Pass pieces on, as far as there is room; never waits."""
        process = self._process
        if process is None:
            return
        for piece in pieces:
            self._give(process, piece)
        process.exchange()

    def _give(self, process: _Process, piece: Piece) -> None:
        if piece.kind in HEADERS:
            self._headers.append(piece.data)
        elif self._full(process, piece):
            self.skipped += piece.packets
            return
        if self._skipping:
            if piece.kind is not Kind.PACKETS:  # the headers come with the next packets
                return
            self._skipping = False
            process.give(ANEW, b"")
            process.give(DATA, b"".join(self._headers))
        process.give(DATA, piece.data)

    def _full(self, process: _Process, piece: Piece) -> bool:
        room = EXPLAIN_BACKLOG // 2 if self._skipping else EXPLAIN_BACKLOG
        full = process.failed or process.backlog + len(piece.data) > room
        self._skipping |= full
        return full

    def result(self, names: List[str], go_on: Callable[[float], bool], *, failed: bool = False) -> Explained:
        """Wait for the result.

        Args:
            names: The files of the capture.
            go_on: Called several times a second with the number of seconds waited; returns
                whether to continue.
            failed: Whether the capture failed, so that the file may lack packets.
        """
        began = time.monotonic()
        process = self._process
        again = self._kept and not self._rotated and (failed or self.skipped > 0)
        if process is not None and not again:
            if not process.finish(lambda: go_on(time.monotonic() - began)):
                return Explained(problem="interrupted: the findings are not complete")
            again = not process.result and self._kept
        if process is None or again:
            self.discard()
            process = _Process(names, self._contents, stream=False)
            self.skipped = 0
            if not process.finish(lambda: go_on(time.monotonic() - began)):
                return Explained(problem="interrupted: the findings are not complete")
        return self._as_explained(process, names)

    def _as_explained(self, process: _Process, names: List[str]) -> Explained:
        facts = process.result.get("explanation")
        if facts is None:
            problem = process.result.get("error") or f"cannot explain the capture: {process.problem}"
            return Explained(problem=problem, skipped=self.skipped)
        lines = list(process.result["lines"])
        if self._rotated:
            facts["files"] = names
        if self.skipped:
            lines.append(f"{self.skipped} packets came too fast to be explained")
        return Explained(lines, facts, self.skipped)

    def discard(self) -> None:
        """End the process without a result."""
        if self._process is not None:
            self._process.kill()


class _Process:
    """The process, and what it has printed.

    Args:
        names, contents, stream, numbered: See `pcapd.ctl.explaining.process`.

    Attributes:
        backlog: Number of bytes that wait for it.
        errors, warnings: Numbers of findings so far.
        result: Its last line; empty before.
        failed: Whether it has ended early.
        problem: Why it could not be started.
    """

    def __init__(self, names: List[str], contents: bool, *, stream: bool, numbered: bool = True) -> None:
        self.backlog = self.errors = self.warnings = 0
        self.result: Dict[str, Any] = {}
        self.failed = False
        self.problem = "the process that explains it has ended early"
        self._pending: Deque[memoryview] = deque()
        self._printed = b""
        self._popen: Optional[subprocess.Popen[bytes]] = None
        asked = {"names": names, "contents": contents, "stream": stream, "numbered": numbered}
        argv = [sys.executable, "-c", _START, str(len(sys.path)), *sys.path, json.dumps(asked)]
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own program
                argv,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for pcapctl
            )
        except OSError as error:
            self.problem, self.failed = str(error.strerror), True
            return
        assert self._popen.stdin is not None and self._popen.stdout is not None
        for file in (self._popen.stdin, self._popen.stdout):
            os.set_blocking(file.fileno(), False)
        with contextlib.suppress(OSError):  # not on Linux, or the user's limit is reached
            fcntl.fcntl(self._popen.stdin, _SET_PIPE_SIZE, _PIPE)

    def give(self, kind: bytes, data: bytes) -> None:
        """Add a frame to the backlog."""
        if not self.failed:
            for part in (FRAME.pack(kind, len(data)), data):
                if part:
                    self._pending.append(memoryview(part))
                    self.backlog += len(part)

    def exchange(self) -> None:
        """Write what the pipe accepts now, and read what there is; never waits."""
        if self.failed or self._popen is None:
            return
        try:
            self._write()
        except BlockingIOError:
            pass
        except OSError:  # it has ended; what it printed may say why
            self._pending.clear()
        self._read()

    def _write(self) -> None:
        assert self._popen is not None and self._popen.stdin is not None
        while self._pending:
            first = self._pending[0]
            count = os.write(self._popen.stdin.fileno(), first)
            self.backlog -= count
            if count < len(first):
                self._pending[0] = first[count:]
            else:
                self._pending.popleft()

    def _read(self) -> None:
        assert self._popen is not None and self._popen.stdout is not None
        try:
            while not self.failed:
                data = os.read(self._popen.stdout.fileno(), _PIPE)
                self._printed += data
                *lines, self._printed = self._printed.split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                if not data or len(self._printed) > EXPLAIN_RESULT_MAX:
                    self._end()
        except BlockingIOError:
            pass

    def _take(self, facts: Dict[str, Any]) -> None:
        self.errors, self.warnings = facts.get("errors", self.errors), facts.get("warnings", self.warnings)
        if "explanation" in facts or "error" in facts:
            self.result = facts

    def finish(self, go_on: Callable[[], bool]) -> bool:
        """Pass on the rest, and wait until the process has ended.

        Args:
            go_on: See `Explainer.result`.

        Returns:
            Whether the wait was not given up.
        """
        while not self.failed:
            self.exchange()
            if not go_on():
                self.kill()
                return False
            self._wait()
        return True

    def _wait(self) -> None:
        if self.failed or self._popen is None:
            return
        assert self._popen.stdin is not None and self._popen.stdout is not None
        if not self._pending:
            self._popen.stdin.close()
        poll = select.poll()
        poll.register(self._popen.stdout, select.POLLIN)
        if self._pending:
            poll.register(self._popen.stdin, select.POLLOUT)
        poll.poll(1000 * _TURN)

    def kill(self) -> None:
        """End the process."""
        if self._popen is not None and not self.failed:
            self._popen.kill()
            self._end()

    def _end(self) -> None:
        """Note that the process has ended, or will because nobody listens any more."""
        self.failed = True
        self._pending.clear()
        self.backlog = 0
        if self._popen is not None:
            for file in (self._popen.stdin, self._popen.stdout):
                if file is not None:
                    with contextlib.suppress(OSError):
                        file.close()
            self._popen.kill()
            self._popen.wait()
