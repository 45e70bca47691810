"""Compiles a long filter in another process first, because compilation may take too long.

libpcap's optimizer takes more than quadratic time: 4,400 characters of ``portrange`` take 11 s
(measured).  A thread that compiles cannot be stopped, but a process can.  The process has a
limited amount of processor time and no privileges.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from types import TracebackType

from pcapd.capture.libpcap import libpcap_path
from pcapd.errors import BadFilter, CaptureFailed
from pcapd.limits import FILTER_COMPILE_CPU, FILTER_COMPILE_TIMEOUT, SNAPLEN_MAX, TRIAL_ANSWER_MAX

__all__ = ["Trial"]

# Each input line is a filter as JSON, each output line libpcap's error message as JSON.  SIGPROF
# ends the process when its processor time is used up.
_PROGRAM = """
import ctypes, json, resource, signal, sys
pcap = ctypes.CDLL(sys.argv[1])
pcap.pcap_open_dead.restype = ctypes.c_void_p
pcap.pcap_geterr.restype = ctypes.c_char_p
handle = ctypes.c_void_p(pcap.pcap_open_dead(int(sys.argv[2]), int(sys.argv[3])))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.setitimer(signal.ITIMER_PROF, float(sys.argv[4]))
for line in sys.stdin:
    program, problem = ctypes.create_string_buffer(16), ""
    if pcap.pcap_compile(handle, program, json.loads(line).encode(), 1, 0):
        problem = pcap.pcap_geterr(handle).decode(errors="replace") or "the filter does not compile"
    else:
        pcap.pcap_freecode(program)
    print(json.dumps(problem), flush=True)
"""


class Trial:
    """A process that compiles filters; a context manager.  Blocks.

    Args:
        dlt: DLT of the interface.
        seconds: Limit of processor time for all filters together.

    Raises:
        CaptureFailed: The process cannot be started.
    """

    def __init__(self, dlt: int, seconds: float = FILTER_COMPILE_CPU) -> None:
        arguments = [libpcap_path(), str(dlt), str(SNAPLEN_MAX), str(seconds)]
        self._deadline = time.monotonic() + FILTER_COMPILE_TIMEOUT
        self._said = b""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - no argument is from a user: filters are sent through a pipe
                [sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                bufsize=0,
            )
        except OSError as error:
            raise CaptureFailed(f"no process to compile the filter: {error.strerror}", "try again") from error

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

    def problem(self, text: str) -> str:
        """libpcap's error message for a filter; empty if the filter compiles.

        Raises:
            BadFilter: This filter and the earlier ones together take too long.
        """
        assert self._process.stdin is not None
        try:
            # This does not block: the pipe is empty, and a filter is smaller than its buffer.
            self._process.stdin.write(json.dumps(text).encode() + b"\n")
        except OSError:
            raise _too_slow() from None
        return str(json.loads(self._line()))

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in self._said:
                if not selector.select(max(0.0, self._deadline - time.monotonic())):
                    raise _too_slow()
                piece = os.read(fd, TRIAL_ANSWER_MAX)
                if not piece:
                    raise _too_slow()
                self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        return line


def _too_slow() -> BadFilter:
    return BadFilter(
        "the filter takes too long to compile", "write a shorter one: port ranges and long lists cost most"
    )
