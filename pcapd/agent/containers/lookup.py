"""Finds the container of a request, and the first process of a container.  Blocks.

Nothing is cached, because containers are created and removed at any time.
"""

from __future__ import annotations

import threading
from pathlib import Path

from pcapd.agent.containers import commands
from pcapd.agent.containers.choice import choose
from pcapd.agent.containers.files import read_bounded, read_store, start_of
from pcapd.agent.containers.runtime import Process, parse_runc_state, parse_state_file
from pcapd.agent.containers.store import StoredContainer
from pcapd.capture import privileges
from pcapd.config.schema import ContainersConfig
from pcapd.errors import CaptureFailed, CapturePermission, NamespaceGone, RequestError
from pcapd.limits import RUNC_OUTPUT_MAX, RUNC_TIMEOUT
from pcapd.wire import Container

__all__ = ["StoreWatch", "find_container", "first_process"]

_GONE = "it may be restarting: try again"


def find_container(config: ContainersConfig, wanted: Container) -> StoredContainer:
    """Find the requested container of this cell.

    Raises:
        RequestError: No container or more than one matches, or the cell's store cannot be read.
    """
    return choose(wanted, read_store(config.store))


class StoreWatch:
    """Returns why a container is no longer the requested one; None while it is.

    The store must be read repeatedly.  When another container receives the same address, its
    interface has the same name and is created before its entry in the store, so the store may
    still contain the old entry when the interface is opened.

    A call does not block: if the store has changed since it was last read, a thread reads it.
    """

    def __init__(self, config: ContainersConfig, wanted: Container, found: StoredContainer) -> None:
        self._path = config.store
        self._wanted = wanted
        self._found = found
        self._seen: object = None  # differs from any version, so the first call reads the store
        self._looking: threading.Thread | None = None
        self._why: str | None = None

    def __call__(self) -> str | None:
        """Why the container is no longer the requested one; None while it is."""
        version = _version(self._path)
        if version != self._seen and not (self._looking and self._looking.is_alive()):
            self._seen = version
            self._looking = threading.Thread(target=self._look, name="container-store", daemon=True)
            self._looking.start()
        return self._why

    def _look(self) -> None:
        try:
            stored = read_store(self._path)
        except RequestError:
            self._seen = None  # try again with the next call
            return
        try:
            if choose(self._wanted, stored) != self._found:
                self._why = f"container {self._found.handle} is being replaced"
        except RequestError as error:
            self._why = error.message


def _version(path: Path) -> tuple[int, int, int] | None:
    """A value that changes when a file changes; None if the file does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def first_process(config: ContainersConfig, handle: str) -> Process:
    """Find a container's first process, which must be alive.

    Runs runc, or reads runc's state file if the command does not exist.

    Raises:
        NamespaceGone: The process has ended, or runc does not know the container.
        CaptureFailed: runc fails, or its output or state file is not valid.
    """
    if config.runc.exists():
        pid = parse_runc_state(_runc_state(config, handle), handle)
        start = start_of(pid)
        if start is None:
            raise _ended(handle)
        return Process(pid, start)
    process = _from_state_file(config, handle)
    if start_of(process.pid) != process.start:
        raise _ended(handle)
    return process


def _ended(handle: str) -> NamespaceGone:
    return NamespaceGone(f"the first process of container {handle} has ended", _GONE)


def _runc_state(config: ContainersConfig, handle: str) -> bytes:
    argv = [str(config.runc), "--root", str(config.runc_root), "state", handle]
    try:
        # Only root can read runc's state.
        with privileges.lend("dac_read_search"):
            done = commands.run(argv, seconds=RUNC_TIMEOUT, most=RUNC_OUTPUT_MAX)
    except TimeoutError:
        raise CaptureFailed(
            f"runc did not answer within {RUNC_TIMEOUT:g} s", "the cell may be overloaded"
        ) from None
    except (OSError, ValueError) as error:
        raise CaptureFailed(
            f"runc failed: {error}", "check containers.runc in the agent's configuration"
        ) from error
    if done.status == 0:
        return done.output
    if b"does not exist" in done.errors:
        raise NamespaceGone(f"runc does not know container {handle} in {config.runc_root}", _GONE)
    raise CaptureFailed(
        f"runc failed with status {done.status}: {_last_line(done.errors)}",
        "check containers.runc and runc_root in the agent's configuration",
    )


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").split("\n")
    printable = ("".join(filter(str.isprintable, line)).strip() for line in reversed(lines))
    return next(filter(None, printable), "no error message")[:200]


def _from_state_file(config: ContainersConfig, handle: str) -> Process:
    path = config.runc_root / handle / "state.json"
    try:
        return parse_state_file(read_bounded(path, RUNC_OUTPUT_MAX), handle)
    except FileNotFoundError:
        raise NamespaceGone(
            f"neither {config.runc} nor {path} exists",
            "check containers.runc and runc_root in the agent's configuration",
        ) from None
    except PermissionError as error:
        raise CapturePermission(
            f"not allowed to read {path}", "the agent needs CAP_DAC_READ_SEARCH"
        ) from error
    except (OSError, ValueError) as error:
        raise CaptureFailed(f"{path} cannot be read: {error}") from error
