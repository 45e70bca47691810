"""Changes to an unprivileged user and keeps the capabilities that are needed for capturing.

Each thread has its own capabilities.  So call `become` before any other thread is started; then
all threads have only the kept capabilities.  capabilities(7).

`become` and `lend` need python-prctl, which is under the GPL.  An agent with ``privileges: none``
calls neither, so python-prctl is imported only by `load`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pcapd.errors import ConfigError

__all__ = ["become", "lend", "load", "mask", "missing"]

#: Numbers of the capabilities that pcapd names, from linux/capability.h; they never change.
_NUMBERS: Final = {"dac_read_search": 2, "net_admin": 12, "net_raw": 13, "sys_ptrace": 19, "sys_admin": 21}

# Constants of prctl(2) that python-prctl lacks.
_PR_CAP_AMBIENT, _AMBIENT_RAISE, _AMBIENT_LOWER = 47, 2, 3
_libc = ctypes.CDLL(None, use_errno=True)


def load() -> Any:
    """Import python-prctl.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import prctl  # noqa: PLC0415  optional: see the module's docstring
    except ImportError as error:
        hint = "install python-prctl, or set privileges: none and start the agent as its own user"
        raise ConfigError("privileges", [f"prctl needs the package python-prctl: {hint}"]) from error
    return prctl


def become(user: str, keep: Iterable[str]) -> None:
    """Change to a user and keep only some capabilities.

    Args:
        user: Name of the user.
        keep: Capabilities without their prefix, in lower case, such as ``net_raw``.

    Raises:
        ConfigError: The user does not exist, or we are not allowed to change to it, or
            python-prctl is not installed.
    """
    prctl = load()
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigError("run_as", [f"there is no user {user!r}"]) from error
    kept = [getattr(prctl, f"CAP_{name.upper()}") for name in keep]
    if os.geteuid() != entry.pw_uid:
        try:
            prctl.securebits.keep_caps = True
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        except PermissionError as error:
            raise ConfigError("run_as", [f"not allowed to change to user {user!r}; start as root"]) from error
    prctl.cap_permitted.limit(*kept)
    prctl.cap_effective.limit(*kept)
    for capability in kept:
        prctl.set_caps((capability, prctl.CAP_EFFECTIVE, True))
    prctl.cap_inheritable.limit()


def missing(needed: Iterable[str]) -> list[str]:
    """Those of the needed capabilities that the calling thread does not have."""
    status = Path("/proc/thread-self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return [name for name in needed if not effective & mask([name])]


def mask(names: Iterable[str]) -> int:
    """Capabilities as a bit mask: bit N is capability number N."""
    return sum(1 << _NUMBERS[name] for name in names)


@contextlib.contextmanager
def lend(name: str) -> Iterator[None]:
    """Let commands that the calling thread starts in this context inherit one capability.

    Outside of it, commands have no capabilities.  Commands that other threads start do not
    inherit it, because each thread has its own capabilities.  Nothing is changed if the thread
    lacks the capability, or if it runs as root, because root's commands have all of them.
    """
    if os.geteuid() == 0 or missing([name]):
        yield
        return
    prctl = load()
    capability = _NUMBERS[name]
    prctl.set_caps((capability, prctl.CAP_INHERITABLE, True))
    _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, capability, 0, 0)
    try:
        yield
    finally:
        _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_LOWER, capability, 0, 0)
        prctl.set_caps((capability, prctl.CAP_INHERITABLE, False))
