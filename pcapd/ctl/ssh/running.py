"""Runs a capture over ssh, or lists the interfaces of the hosts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, List, NamedTuple, Sequence

from pcapd.ctl.display.terminal import say
from pcapd.ctl.display.text import escape
from pcapd.ctl.options import CaptureOptions, CaptureTarget, UsageProblem
from pcapd.ctl.run import run
from pcapd.ctl.ssh.connection import SshConnection
from pcapd.ctl.ssh.farside import LISTING, SYSFS_LISTING
from pcapd.ctl.ssh.hosts import AT_ONCE, HOSTS_MAX, Host
from pcapd.ctl.ssh.said import problem_of
from pcapd.wire import Notice

__all__ = ["capture"]

#: Seconds for one host's list of interfaces.
_LIST_TIMEOUT: Final = 30.0
_INTERFACE = re.compile(r"\d+[.] *(\S+)")
#: Beginnings of the names of interfaces that are not network interfaces.
_OTHERS: Final = ("bluetooth", "nflog", "nfqueue", "usbmon", "dbus")


def capture(
    hosts: Sequence[Host],
    options: CaptureOptions,
    target: CaptureTarget,
    *,
    include_ssh: bool = False,
    unavailable: Sequence[Notice] = (),
    frontend: Any = None,
    parent: Any = None,
) -> int:
    """Capture, or list the interfaces, and return the exit status.

    Args:
        include_ssh: Whether the ssh servers' ports are captured too.
        unavailable: Notices about what was asked for, but cannot be captured.
        frontend: As for `pcapd.ctl.run.run`.
        parent: The program whose exit stops the capture, if any.

    Raises:
        PcapdError: Nothing could be captured.
    """
    if len(hosts) > HOSTS_MAX:
        raise UsageProblem(f"more than {HOSTS_MAX} hosts", "agents are made for that many")
    if options.list_interfaces:
        return _list(hosts, unavailable, json_lines=options.json)

    def dial() -> SshConnection:
        return SshConnection(hosts, terminal=_terminal(), include_ssh=include_ssh, unavailable=unavailable)

    return run(dial, options, target, frontend, parent)


def _terminal() -> bool:
    """Whether there is a terminal, and pcapctl is in its foreground."""
    with contextlib.suppress(OSError):
        fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        try:
            return os.tcgetpgrp(fd) == os.getpgrp()
        finally:
            os.close(fd)
    return False


class _Listed(NamedTuple):
    host: str
    interfaces: List[str]
    problem: str


def _list(hosts: Sequence[Host], unavailable: Sequence[Notice], *, json_lines: bool) -> int:
    """Print the interfaces of the hosts; return 1 if those of one are unknown."""
    with ThreadPoolExecutor(min(len(hosts), AT_ONCE)) as threads:
        lists = list(threads.map(_interfaces, hosts))
    lists += [_Listed(notice.origin, [], notice.message) for notice in unavailable]
    for listed in lists:
        for interface in listed.interfaces:
            facts = {"instance": listed.host, "interface": interface}
            say(json.dumps(facts) if json_lines else escape(f"{listed.host}: {interface}"), sys.stdout)
        if listed.problem:
            say(escape(f"{listed.host}: {listed.problem}"), sys.stderr)
    return int(any(listed.problem for listed in lists))


def _interfaces(host: Host) -> _Listed:
    try:
        done = subprocess.run(  # noqa: S603  # no shell: the user's own words are ssh's arguments
            [*host.words(), SYSFS_LISTING if host.tool else LISTING],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIST_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Listed(host.name, [], f"cannot run {host.program[0]}: {error}")
    found = [match[1] for line in done.stdout.splitlines() if (match := _INTERFACE.match(line)) is not None]
    names = [name for name in found if not name.startswith(_OTHERS)]
    message, hint = problem_of(
        host.check, [line for line in done.stderr.splitlines() if line.strip()], host.remedies
    )
    problem = message or f"{host.program[0]} ended with status {done.returncode}"
    return _Listed(host.name, names, "" if names else f"{problem} ({hint})" if hint else problem)
