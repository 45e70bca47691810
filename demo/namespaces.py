"""Hosts of the lab: network namespaces, and links between them.

::

    with Namespace.unique("web-0") as web0, Namespace.unique("web-1") as web1:
        link = connect(web0, web1)
        web0.run("ping", "-c1", link.right.ipv4)

Removing a namespace also ends its processes and removes its interfaces.  Needs root.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from demo import offloads
from demo.processes import CommandFailed, end, run, wait_until

DIRECTORY = Path("/run/netns")

#: Names from `Namespace.unique`; the number is the id of the process that chose them.
UNIQUE = re.compile(r"pcapd-(\d+)-\d+-")

#: Host number, in a link's network, of an unused address.
NOBODY = 99

_serial = itertools.count()


class Namespace:
    """A named network namespace, created on entering the context and removed on leaving it.

    Attributes:
        name: As ``ip netns`` lists it.
        path: Its file, for use in a configuration.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = DIRECTORY / name
        self._processes: list[subprocess.Popen[Any]] = []

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    @classmethod
    def unique(cls, label: str) -> Namespace:
        """Choose a name that no other process and no other lab in this process uses."""
        return cls(f"pcapd-{os.getpid()}-{next(_serial)}-{label}")

    def create(self) -> None:
        """Create the namespace, with its loopback interface up."""
        run(["ip", "netns", "add", self.name])
        try:
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.delete()
            raise

    def delete(self) -> None:
        """End the processes started inside, and remove the namespace if it still exists."""
        while self._processes:
            end(self._processes.pop())
        if self.path.exists():
            run(["ip", "netns", "delete", self.name])

    def ip(self, *arguments: str) -> str:
        """Run ``ip`` on this namespace's network; returns its output."""
        return run(["ip", "-n", self.name, *arguments]).stdout

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs ``argv`` inside.

        ``ip`` replaces itself by the command, so the process id is the command's.
        """
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end; raises `CommandFailed` if it fails."""
        return run(self.command(*argv), **options)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a command inside; it ends at the latest with the namespace."""
        process = subprocess.Popen(self.command(*argv), **options)
        self._processes.append(process)
        return process

    def adopt(self, process: subprocess.Popen[Any]) -> None:
        """Also end this process at the latest with the namespace."""
        self._processes.append(process)

    def pids(self) -> list[int]:
        """The ids of the processes that run inside."""
        return [int(pid) for pid in run(["ip", "netns", "pids", self.name]).stdout.split()]

    def counters(self, device: str = "eth0") -> dict[str, int]:
        """Return the counters of an interface: ``rx_packets``, ``tx_packets``, ``rx_dropped``..."""
        (link,) = json.loads(self.ip("-s", "-j", "link", "show", "dev", device))
        return {
            f"{direction}_{name}": int(value)
            for direction in ("rx", "tx")
            for name, value in link["stats64"][direction].items()
        }

    def __enter__(self) -> Namespace:
        self.create()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.delete()


@dataclass(frozen=True)
class End:
    """One host's end of a link."""

    namespace: Namespace
    device: str
    ipv4: str
    ipv6: str

    def is_up(self) -> bool:
        """Return whether the kernel has noticed that both ends are up; it drops packets until then."""
        (link,) = json.loads(self.namespace.ip("-j", "link", "show", "dev", self.device))
        return bool(link["operstate"] == "UP")


@dataclass(frozen=True)
class Link:
    """A link between two hosts."""

    left: End
    right: End

    @property
    def nobody(self) -> str:
        """An unused IPv4 address of this network."""
        return f"{self.left.ipv4.rpartition('.')[0]}.{NOBODY}"


def connect(left: Namespace, right: Namespace, *, device: str = "eth0", subnet: int = 0) -> Link:
    """Connect two namespaces and give both ends addresses.

    Args:
        left: Gets 10.99.SUBNET.1 and fd00:99:SUBNET::1.
        right: Gets 10.99.SUBNET.2 and fd00:99:SUBNET::2.
        device: Name of the interface at both ends.
        subnet: A number below 256, for hosts with several links.
    """
    left.ip("link", "add", device, "type", "veth", "peer", "name", device, "netns", right.name)
    ends = (_end(left, device, subnet, 1), _end(right, device, subnet, 2))
    # Up only after both have their addresses: otherwise the first sends before the second can receive.
    for each in ends:
        each.namespace.ip("link", "set", device, "up")
    for each in ends:
        wait_until(each.is_up, f"{each.namespace.name}: {device} is up")
    return Link(*ends)


def _end(namespace: Namespace, device: str, subnet: int, host: int) -> End:
    end_ = End(namespace, device, f"10.99.{subnet}.{host}", f"fd00:99:{subnet:x}::{host}")
    # No link-local address: its router solicitations are noise in every capture.
    namespace.ip("link", "set", device, "addrgenmode", "none")
    namespace.ip("address", "add", f"{end_.ipv4}/24", "dev", device)
    namespace.ip("address", "add", f"{end_.ipv6}/64", "dev", device, "nodad")
    namespace.run(sys.executable, offloads.__file__, device)
    return end_


def remove_stale() -> None:
    """Remove the namespaces that a killed process of the lab has left behind."""
    for path in DIRECTORY.glob("pcapd-*"):
        match = UNIQUE.match(path.name)
        if match and not Path("/proc", match.group(1)).exists():
            try:
                run(["ip", "netns", "delete", path.name])
            except CommandFailed:
                # Another process was faster.
                continue
