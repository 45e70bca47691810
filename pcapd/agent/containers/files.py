"""Reads files of other programs, with a size limit.  Blocks."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, TypeVar

from pcapd.agent.containers.runtime import parse_process
from pcapd.agent.containers.store import StoredContainer, parse_store
from pcapd.errors import CaptureFailed, CapturePermission
from pcapd.limits import (
    PROCESS_STAT_MAX,
    STORE_ATTEMPT_INTERVAL,
    STORE_ATTEMPTS,
    STORE_LOCK_INTERVAL,
    STORE_LOCK_TIMEOUT,
    STORE_MAX,
)

__all__ = ["read_bounded", "read_store", "start_of"]

T = TypeVar("T")


def read_bounded(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is larger, or not a regular file.
    """
    # O_NONBLOCK: to open a named pipe would otherwise wait for a writer, perhaps for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def start_of(pid: int) -> int | None:
    """The start time of a process, in clock ticks since boot; None if it does not exist."""
    try:
        return parse_process(read_bounded(Path(f"/proc/{pid}/stat"), PROCESS_STAT_MAX))
    except (OSError, ValueError):
        return None


def read_store(path: Path) -> tuple[StoredContainer, ...]:
    """Read the store: the current containers of this cell.

    silk overwrites the store in place while it holds a lock (silk-release,
    lib/datastore/datastore.go).  If the lock cannot be acquired and the store is empty or not
    valid, it is read again a few times before the result is accepted.

    Raises:
        CapturePermission: This process is not allowed to read the store.
        CaptureFailed: The store cannot be read, or its content is not valid.
    """
    try:
        with _locked(path.with_name(f"{path.name}_lock")) as locked:
            return _read(path, attempts=1 if locked else STORE_ATTEMPTS)
    except PermissionError as error:
        raise CapturePermission(
            f"not allowed to read the container store {path}", "the agent must run as the user that owns it"
        ) from error
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise CaptureFailed(
            f"the container store {path} cannot be read: {why}",
            "check that this is a Diego cell, and containers.store",
        ) from error
    except ValueError as error:
        raise CaptureFailed(f"the container store {path} is not valid: {error}", "try again") from error


def _read(path: Path, attempts: int) -> tuple[StoredContainer, ...]:
    for left in range(attempts - 1, -1, -1):
        try:
            data = read_bounded(path, STORE_MAX)
            containers = parse_store(data)
        except ValueError:
            if not left:
                raise
        else:
            if data or not left:
                return containers
        time.sleep(STORE_ATTEMPT_INTERVAL)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a shared lock; yield whether it was acquired in time."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        yield _soon(lambda: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB))
    finally:
        os.close(fd)


def _soon(lock: Callable[[], None]) -> bool:
    deadline = time.monotonic() + STORE_LOCK_TIMEOUT
    while time.monotonic() < deadline:
        try:
            lock()
        except BlockingIOError:
            time.sleep(STORE_LOCK_INTERVAL)
        except OSError:  # a file system without locks
            return False
        else:
            return True
    return False
