"""Parses what runc and ``/proc`` report about a container's first process.  Pure.

Sources: runc, state.go and libcontainer/container_linux.go (``runc state``,
``state.json``); proc(5) (``/proc/PID/stat``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pcapd.agent.containers.store import parse_object
from pcapd.errors import CaptureFailed, NamespaceGone

__all__ = ["Process", "parse_process", "parse_runc_state", "parse_state_file"]

#: States in which a container has a process, and therefore a network namespace.
_ALIVE = frozenset(("created", "running", "paused"))
#: PID_MAX_LIMIT of Linux.
_PID_MAX = 2**22
_DEAD = frozenset((b"Z", b"X", b"x"))


class Process(NamedTuple):
    """A process, identified by its id and start time, because ids are reused.

    Attributes:
        start: Start time of the process, in clock ticks since boot.
    """

    pid: int
    start: int


def parse_runc_state(output: bytes, handle: str) -> int:
    """The process id of a container's first process, from ``runc state HANDLE``.

    Raises:
        CaptureFailed: The output is not valid.
        NamespaceGone: The container does not run.
    """
    state = _object(output, f"runc's output about container {handle} is not valid")
    if state.get("id") != handle:
        raise CaptureFailed(f"runc reported a container other than {handle}")
    status = state.get("status")
    if status not in _ALIVE:
        description = status if isinstance(status, str) and status.isidentifier() else "in an unknown state"
        raise NamespaceGone(f"container {handle} is {description}", "it may be restarting: try again")
    pid = _number(state.get("pid"), 1, _PID_MAX)
    if pid is None:
        raise CaptureFailed(f"runc does not report the process of container {handle}")
    return pid


def parse_state_file(data: bytes, handle: str) -> Process:
    """A container's first process, from runc's ``state.json``.

    Raises:
        CaptureFailed: The file is not valid, or belongs to another container.
    """
    message = f"runc's state file of container {handle} is not valid"
    state = _object(data, message)
    pid = _number(state.get("init_process_pid"), 1, _PID_MAX)
    start = _number(state.get("init_process_start"), 0, 2**64)
    if state.get("id") != handle or pid is None or start is None:
        raise CaptureFailed(message)
    return Process(pid, start)


def parse_process(stat: bytes) -> int | None:
    """The start time of a process, from its ``/proc/PID/stat``; None if the process is dead.

    Raises:
        ValueError: The bytes are not from such a file.
    """
    # The process's name is in parentheses and may contain any characters, also parentheses.
    fields = stat.rpartition(b")")[2].split()
    if len(fields) < 20:
        raise ValueError("too few fields")
    return None if fields[0] in _DEAD else int(fields[19])


def _object(data: bytes, message: str) -> dict[str, Any]:
    try:
        return parse_object(data)
    except ValueError as error:
        raise CaptureFailed(message, "check runc's version and root in the agent's configuration") from error


def _number(value: object, low: int, high: int) -> int | None:
    # isinstance(True, int) is true, but a JSON true is not a number.
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if low <= value <= high else None
