"""Compile a long filter in another process first, to see whether that ends.

libpcap's optimizer takes more than quadratic time, and pcapy-ng holds Python's
lock meanwhile: 4,400 characters of ``portrange`` stopped the whole agent for
11 s (measured), its other captures included.  No thread could be stopped
either.  A process can: it has so much processor time and no privileges.

Short filters need no trial: the worst that we know takes 25 ms.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import pcapy

from pcapd.errors import BadFilter, CaptureFailed
from pcapd.limits import FILTER_COMPILE_CPU, FILTER_COMPILE_TIMEOUT, FILTER_QUICK, SNAPLEN_MAX

__all__ = ["Trial", "needs_trial"]

# A line of JSON in, a filter; a line of JSON out, whether it compiles.  SIGPROF comes when
# the processor time is used up, and ends it.  Why it does not compile is not told: pcapy's
# compile takes the words from memory that is freed already.
_PROGRAM = """
import json, resource, signal, sys
sys.path.insert(0, sys.argv[1])
import pcapy
link_type, snaplen, seconds = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.setitimer(signal.ITIMER_PROF, seconds)
for line in sys.stdin:
    compiles = True
    try:
        pcapy.compile(link_type, snaplen, json.loads(line), 1, 0)
    except (pcapy.PcapError, ValueError):
        compiles = False
    print(json.dumps(compiles), flush=True)
"""
_ANSWER_MAX = 64 * 1024


def needs_trial(text: str) -> bool:
    """Whether a filter is so long that its compilation could take long."""
    return len(text) > FILTER_QUICK


class Trial:
    """A process that compiles filters; a context manager.  Blocks.

    Args:
        dlt: DLT of the interface.
        seconds: Of processor time for all that it compiles.

    Raises:
        CaptureFailed: It cannot be started.
    """

    def __init__(self, dlt: int, seconds: float = FILTER_COMPILE_CPU) -> None:
        arguments = [str(Path(pcapy.__file__).parent), str(dlt), str(SNAPLEN_MAX), str(seconds)]
        self._deadline = time.monotonic() + FILTER_COMPILE_TIMEOUT
        self._said = b""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - nothing of it is a user's: filters go through a pipe
                [sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                bufsize=0,
            )
        except OSError as error:
            raise CaptureFailed(f"no process for a filter's trial: {error.strerror}", "try again") from error

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def compiles(self, text: str) -> bool:
        """Whether a filter makes sense to libpcap.

        Raises:
            BadFilter: It, with those before it, takes too long.
        """
        assert self._process.stdin is not None
        try:
            # At most a few KB, and its reader waits for it: this fits the pipe.
            self._process.stdin.write(json.dumps(text).encode() + b"\n")
        except OSError:
            raise _too_slow() from None
        return json.loads(self._line()) is True

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in self._said:
                if not selector.select(max(0.0, self._deadline - time.monotonic())):
                    raise _too_slow()
                piece = os.read(fd, _ANSWER_MAX)
                if not piece:
                    raise _too_slow()
                self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        return line


def _too_slow() -> BadFilter:
    return BadFilter(
        "the filter takes too long to compile", "write a shorter one: port ranges and long lists cost most"
    )
