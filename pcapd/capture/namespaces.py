"""Enters network namespaces, and identifies them.

``setns`` changes the calling *thread* permanently.  So `enter` must be called on a separate
thread that ends afterwards, never on the reactor's thread or a thread of a pool: the next job
on such a thread would run in the wrong namespace.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading
from pathlib import Path

from pcapd.errors import CapturePermission, NamespaceGone

__all__ = ["enter", "identity", "is_network_namespace", "is_ours", "open_namespace"]

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: str | int) -> None:
    """Move the calling thread into a network namespace, for the rest of its life.

    Args:
        namespace: The namespace's path, or a descriptor of it, which is not closed.

    Raises:
        NamespaceGone: There is no namespace at the path.
        CapturePermission: CAP_SYS_ADMIN is missing.
    """
    if threading.current_thread() is threading.main_thread():
        raise RuntimeError("the main thread must stay in its namespace")
    if isinstance(namespace, int):
        _enter(namespace, "the descriptor")
        return
    fd = open_namespace(namespace)
    try:
        _enter(fd, namespace)
    finally:
        os.close(fd)


def open_namespace(path: str) -> int:
    """Open a network namespace; it exists at least as long as the descriptor is open.

    Raises:
        NamespaceGone: There is nothing at the path.
        CapturePermission: This process is not allowed to open it.
    """
    try:
        # O_NONBLOCK, because the path may be of any file, such as a FIFO.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise CapturePermission(f"not allowed to open the network namespace {path}") from error
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise NamespaceGone(f"there is no network namespace at {path}: {why}") from error


def is_network_namespace(fd: int) -> bool:
    """Whether a descriptor is of a network namespace, not of a file that was left at its path."""
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def is_ours(fd: int) -> bool:
    """Whether a network namespace is that of the calling thread."""
    return os.path.samestat(os.fstat(fd), Path("/proc/thread-self/ns/net").stat())


def identity(path: str) -> tuple[int, int] | None:
    """A value that differs if another namespace is mounted at the path; None if there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _enter(fd: int, name: str) -> None:
    # os.setns exists from Python 3.12 on.
    if _libc.setns(fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        if isinstance(OSError(code, ""), PermissionError):
            raise CapturePermission(
                "not allowed to enter a network namespace", "the agent needs CAP_SYS_ADMIN"
            )
        raise NamespaceGone(f"{name} is not a network namespace: {os.strerror(code)}")
