"""Run commands, stop processes, and sample their resource usage."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

#: Root of the checkout, in which ``python -m demo...`` is started.
ROOT = Path(__file__).resolve().parents[1]

#: Seconds that any single short command may take.
COMMAND_TIMEOUT = 60.0


class CommandFailed(AssertionError):
    """A command of the lab failed; the message contains its error output."""


def run(argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with its output captured as text.

    Raises:
        CommandFailed: The command cannot be started, or its exit status is not 0.
    """
    options.setdefault("timeout", COMMAND_TIMEOUT)
    try:
        done = subprocess.run(argv, text=True, capture_output=True, check=False, **options)
    except FileNotFoundError as error:
        raise CommandFailed(f"{argv[0]} is not installed ({error})") from error
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done


def end(process: subprocess.Popen[Any], *, grace: float = 3.0) -> int:
    """End a process with SIGTERM, if necessary with SIGKILL, and return its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def wait_until(condition: Callable[[], bool], what: str, *, timeout: float = 10.0) -> None:
    """Check repeatedly until ``condition`` holds.

    Raises:
        CommandFailed: ``what`` did not happen within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what}: not within {timeout:g} s")
        time.sleep(0.02)


@dataclass(frozen=True)
class Usage:
    """The resource usage of one process at one moment.

    Attributes:
        rss: Resident memory, bytes.
        own: The part of it that belongs to no file and to no capture's ring, bytes.
        peak_rss: The maximum so far, bytes.
        cpu: User and system time since its start, seconds.
        fds: Open file descriptors.
        threads: Threads.
        wakeups: How often its threads have woken up after waiting.
    """

    rss: int
    own: int
    peak_rss: int
    cpu: float
    fds: int
    threads: int
    wakeups: int


def usage(pid: int) -> Usage:
    """Sample a running process from ``/proc``."""
    proc = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    # The command's name, in parentheses, may contain spaces: count fields after it.
    stat = (proc / "stat").read_text().rpartition(")")[2].split()
    user, system = int(stat[11]), int(stat[12])
    return Usage(
        rss=_kilobytes(status["VmRSS"]),
        own=_kilobytes(status["RssAnon"]),
        peak_rss=_kilobytes(status["VmHWM"]),
        cpu=(user + system) / os.sysconf("SC_CLK_TCK"),
        fds=len(list((proc / "fd").iterdir())),
        threads=int(status["Threads"]),
        wakeups=sum(_waits(task) for task in (proc / "task").iterdir()),
    )


def _waits(task: Path) -> int:
    try:
        text = (task / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended
        return 0
    return int(dict(line.split(":", 1) for line in text.splitlines())["voluntary_ctxt_switches"])


def _kilobytes(field: str) -> int:
    return int(field.split(maxsplit=1)[0]) * 1024
