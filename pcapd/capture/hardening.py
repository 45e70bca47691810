"""Drops rights that no daemon needs; works as any user.  prctl(2), core(5)."""

from __future__ import annotations

import ctypes
import resource
import signal

__all__ = ["end_with_parent", "harden"]

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this signal to the calling process when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def harden() -> None:
    """Forbid new privileges, core dumps, and debuggers of the same user: these could show packets."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
