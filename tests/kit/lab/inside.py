"""Sockets of this process in a network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from typing import Any, Callable

from demo.namespaces import Namespace

__all__ = ["inside"]

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def inside(namespace: Namespace, function: Callable[..., Any], *arguments: Any) -> threading.Thread:
    """Run a function in a thread whose new sockets are in a namespace."""

    def run() -> None:
        with namespace.path.open() as handle:
            if _libc.setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        with contextlib.suppress(OSError):
            function(*arguments)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
