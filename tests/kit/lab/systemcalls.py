"""Run a command below systemd's ``SystemCallFilter=``, without systemd.

``python -m tests.kit.lab.systemcalls FILTER COMMAND...``: what is not in the filter ends
with EPERM, as ``SystemCallErrorNumber=EPERM`` makes it.  libseccomp installs it, as
for systemd; ``systemd-analyze`` knows what its sets contain.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from typing import Iterator

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def missing() -> str:
    """Why this cannot work here; empty where it can."""
    if shutil.which("systemd-analyze") is None:
        return "systemd-analyze is not installed (apt-get install systemd)"
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return "libseccomp is not installed (apt-get install libseccomp2)"
    return ""


def names(allowed: str) -> set[str]:
    """All system calls of a filter such as ``@system-service setns``."""
    # Always there, says systemd.exec(5).
    return {name for word in [*allowed.split(), "@default"] for name in _expanded(word)}


def _expanded(word: str) -> Iterator[str]:
    if not word.startswith("@"):
        yield word
        return
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], check=True, capture_output=True, text=True
    ).stdout
    for line in listed.splitlines()[1:]:
        if line.strip() and not line.strip().startswith("#"):
            yield from _expanded(line.strip())


def install(allowed: set[str]) -> None:
    """Let this process, and whatever it starts, make no other system calls."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_ERRNO | errno.EPERM))
    for name in sorted(allowed):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of other machines
            code = library.seccomp_rule_add(context, _ALLOW, number, 0)
            assert code == 0, f"{name}: {os.strerror(-code)}"
    code = library.seccomp_load(context)
    assert code == 0, os.strerror(-code)


if __name__ == "__main__":
    install(names(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
