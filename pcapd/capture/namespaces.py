"""Network namespaces: do something in another one.

``setns`` changes the calling *thread* for good.  So a caller must be on a
thread of its own that ends afterwards, never on the reactor's or on one of a
pool: the next job there would run in a stranger's namespace.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

from pcapd.errors import CapturePermission, NamespaceGone

__all__ = ["enter", "identity"]

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter(path: str) -> None:
    """Move the calling thread into the network namespace at a path, for the rest of its life.

    Raises:
        NamespaceGone: There is no namespace (any more) at the path.
        CapturePermission: CAP_SYS_ADMIN is missing.
    """
    if threading.current_thread() is threading.main_thread():
        raise RuntimeError("the main thread must stay in its namespace")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise CapturePermission(f"not allowed to open the network namespace {path}") from error
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise NamespaceGone(f"there is no network namespace at {path}: {why}") from error
    try:
        # os.setns exists from Python 3.12 on.
        if _libc.setns(fd, _CLONE_NEWNET):
            code = ctypes.get_errno()
            if isinstance(OSError(code, ""), PermissionError):
                raise CapturePermission("not allowed to enter a network namespace", "it needs CAP_SYS_ADMIN")
            raise NamespaceGone(f"{path} is no network namespace: {os.strerror(code)}")
    finally:
        os.close(fd)


def identity(path: str) -> tuple[int, int] | None:
    """What tells one namespace from the next at the same path; None when there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
