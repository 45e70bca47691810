"""Runs a capture over ssh, or lists the interfaces of the hosts."""

from __future__ import annotations

import json
import re
import select
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, List, NamedTuple, Sequence, Tuple

from pcapd.ctl.display.terminal import say
from pcapd.ctl.display.text import escape
from pcapd.ctl.options import CaptureOptions, CaptureTarget, UsageProblem
from pcapd.ctl.run import run
from pcapd.ctl.ssh.asking import Questions
from pcapd.ctl.ssh.children import Child, close_all
from pcapd.ctl.ssh.connection import SshConnection
from pcapd.ctl.ssh.farside import LISTING, SYSFS_LISTING
from pcapd.ctl.ssh.hosts import AT_ONCE, HOSTS_MAX, Host
from pcapd.ctl.ssh.said import problem_of
from pcapd.errors import PcapdError
from pcapd.wire import Notice

__all__ = ["capture"]

#: Seconds for one host's list of interfaces.
_LIST_TIMEOUT: Final = 30.0
#: bytes of each output that are looked at, and milliseconds of a turn.
_LIST_BYTES: Final = 64 * 1024
_LIST_TURN_MS: Final = 250
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
        questions = None if options.quiet else Questions.open()
        connection = SshConnection(hosts, questions, include_ssh=include_ssh, unavailable=unavailable)
        connection.connect(options.request(target))
        return connection

    return run(dial, options, target, frontend, parent)


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
        status, printed, errors = _outputs([*host.words(), SYSFS_LISTING if host.tool else LISTING])
    except PcapdError as error:
        return _Listed(host.name, [], str(error))
    found = [match[1] for line in printed.splitlines() if (match := _INTERFACE.match(line)) is not None]
    names = [name for name in found if not name.startswith(_OTHERS)]
    message, hint = problem_of(
        host.check, [line for line in errors.splitlines() if line.strip()], host.remedies
    )
    problem = message or f"{host.program[0]} ended with status {status}"
    return _Listed(host.name, names, "" if names else f"{problem} ({hint})" if hint else problem)


def _outputs(words: Sequence[str]) -> Tuple[int, str, str]:
    """Run a program without input; return its status and the beginnings of stdout and stderr.

    Raises:
        PcapdError: It cannot be run, or does not end in time.
    """
    child, poll = Child(words), select.poll()
    buffer, until = memoryview(bytearray(_LIST_BYTES)), time.monotonic() + _LIST_TIMEOUT
    printed = {child.stdout: b"", child.stderr: b""}
    status = None
    try:
        child.hang_up()
        child.watch(poll)
        while status is None and time.monotonic() < until:
            poll.poll(_LIST_TURN_MS)
            for fd, before in printed.items():
                more = child.read(fd, buffer, poll)
                printed[fd] = (before + more)[:_LIST_BYTES] if more else before
            status = child.status(time.monotonic(), poll)
    finally:
        close_all([child])
    if status is None:
        raise PcapdError(f"no answer within {_LIST_TIMEOUT:g} s")
    out, err = (printed[fd].decode(errors="replace") for fd in (child.stdout, child.stderr))
    return status, out, err
