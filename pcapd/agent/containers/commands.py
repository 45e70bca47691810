"""Runs a command with limits of time and output.  Blocks."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Finished", "run"]

_PIECE = 65536


class Finished(NamedTuple):
    """The result of a command.

    Attributes:
        status: Exit status; negative if a signal ended the command.
    """

    status: int
    output: bytes
    errors: bytes


def run(argv: Sequence[str], *, seconds: float, most: int) -> Finished:
    """Run a command and wait for its end, without a shell, input or environment variables.

    Args:
        argv: The command's absolute path and arguments.
        seconds: Time limit.
        most: Limit of bytes of standard output, and of standard error.

    Raises:
        OSError: The command cannot be started.
        TimeoutError: The command exceeded the time limit.
        ValueError: The command wrote more than `most` bytes.
    """
    process = subprocess.Popen(  # noqa: S603 - a path of the configuration, and a checked handle
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        cwd="/",
        # A process group of its own, so that its child processes can be ended with it.
        start_new_session=True,
    )
    deadline = time.monotonic() + seconds
    try:
        output, errors = _read_both(process, deadline, most)
        return Finished(process.wait(max(0.0, deadline - time.monotonic())), output, errors)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        _end(process)


def _read_both(process: subprocess.Popen[bytes], deadline: float, most: int) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    read: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in read:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE)
                read[key.fileobj] += piece
                if not piece:
                    selector.unregister(key.fileobj)
                if len(read[key.fileobj]) > most:
                    raise ValueError(f"it wrote more than {most} bytes")
    return bytes(read[process.stdout]), bytes(read[process.stderr])


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # not yet waited for, so its process id is not reused
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
