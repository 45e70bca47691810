"""An app with two instances that ``cf ssh`` reaches, each in namespaces of its own.

::

    myapp/0 ── eth0 ─────────── eth0 ── myapp/1

A container has its own network, ``/tmp/lifecycle/cf-pcap`` and, of all privileges, CAP_NET_RAW at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Optional

from demo.certificates import Authority
from demo.namespaces import Link, Namespace, connect
from demo.processes import wait_until
from tests.kit.doubles import cf_pcap, cf_ssh
from tests.kit.hosts.cf import GUID, Canned, Foundation
from tests.kit.imports import ROOT

__all__ = ["SSHD_PROXY", "Instances", "app_over_ssh"]

#: The port where Envoy accepts ssh in a container.
SSHD_PROXY = 61002
_ABOUT = f"/v3/apps/{GUID}"
_PORTS = [
    {"internal": 8080, "external_tls_proxy_port": 61012, "internal_tls_proxy_port": 61001, "external": None},
    {
        "internal": 2222,
        "external_tls_proxy_port": 61013,
        "internal_tls_proxy_port": SSHD_PROXY,
        "external": None,
    },
]
#: Puts the container's own files in place.  A checkout below /tmp stays there, because the double runs in it.
_ENTER = (
    'mount --make-rprivate /; [ ! -e "$0/date" ] || mount --bind "$0/date" /usr/bin/date; '
    f'case {ROOT} in /tmp/*) mkdir -p "$0{ROOT}"; mount --bind {ROOT} "$0{ROOT}";; esac; '
    'mount --rbind "$0/tmp" /tmp; exec "$@"'
)


@dataclass
class Instances:
    """See the module.

    Attributes:
        capable: Whether cf-pcap has its capability.
        refuse: Whether the ssh proxy refuses the user.
        stop_seconds: Seconds that cf-pcap takes to stop.
        started: What a test has started; ended at the latest with the instances.
    """

    foundation: Foundation
    directory: Path
    link: Link
    capable: bool = True
    refuse: bool = False
    stop_seconds: float = 0.0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def namespaces(self) -> tuple[Namespace, Namespace]:
        """The network namespaces of both containers."""
        return self.link.left.namespace, self.link.right.namespace

    def prepare(self) -> None:
        """Fill the containers, and tell Cloud Controller about them."""
        tool = self.directory / "tmp" / "lifecycle" / "cf-pcap"
        tool.parent.mkdir(parents=True)
        real = os.environ.get("PCAPD_TEST_CF_PCAP")
        if real:
            shutil.copy(real, tool)
        else:
            tool.write_text(f'#!/bin/sh\nexec {sys.executable} {cf_pcap.__file__} "$@"\n')
        tool.chmod(0o755)
        program = self.directory / "bin" / "cf"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} {cf_ssh.__file__} "$@"\n')
        program.chmod(0o755)
        canned = self.foundation.state.canned
        space = {"space": {"data": {"guid": "space-guid"}}}
        canned[_ABOUT] = Canned(200, {"guid": GUID, "name": "myapp", "relationships": space})
        self.ssh_enabled(True)
        self.stats("RUNNING", "RUNNING")

    def ssh_enabled(self, enabled: bool, reason: str = "") -> None:
        """What Cloud Controller answers about ssh."""
        answer = Canned(200, {"enabled": enabled, "reason": reason})
        self.foundation.state.canned[f"{_ABOUT}/ssh_enabled"] = answer

    def stats(self, *states: str, type: str = "web", ports: Any = _PORTS) -> None:
        """What Cloud Controller answers about the instances."""
        entries = [
            {
                "type": type,
                "index": index,
                "state": state,
                "host": "10.0.16.21",
                "instance_ports": ports,
                "uptime": 120,
            }
            for index, state in enumerate(states)
        ]
        self.foundation.state.canned[f"{_ABOUT}/processes/{type}/stats"] = Canned(200, {"resources": entries})

    def hide_cf_pcap(self) -> None:
        """Remove it, as before diego-release 2.130."""
        (self.directory / "tmp" / "lifecycle" / "cf-pcap").unlink()

    def coarse_clock(self) -> None:
        """Let the container's date know no fractions, as BusyBox's does."""
        path = self.directory / "date"
        path.write_text("#!/bin/bash\nprintf '%(%s)T.%%N\\n' -1\n")
        path.chmod(0o755)

    # --- the user ---------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, str]:
        """The user's environment, with the cf CLI in PATH.

        ``STANDIN_CF`` is for the cf CLI that runs plugins, which is another program.
        """
        bounds = "-all,+net_raw" if self.capable else "-all"
        places = {
            str(index): [
                *namespace.command("unshare", "--mount", "sh", "-c", _ENTER, str(self.directory)),
                *("setpriv", f"--bounding-set={bounds}"),
            ]
            for index, namespace in enumerate(self.namespaces)
        }
        proxies = [{"internal": 2222, "internal_tls_proxy": SSHD_PROXY}]
        state = {
            "refuse": self.refuse,
            "places": {"myapp": {"web": places, "worker": places}},
            "calls": str(self.directory / "calls"),
            "environment": {
                "CF_INSTANCE_PORTS": json.dumps(proxies),
                "DOUBLE_STOP_SECONDS": str(self.stop_seconds),
            },
        }
        path = self.directory / "ssh.json"
        path.write_text(json.dumps(state))
        programs = self.directory / "bin"
        variables = {"STANDIN_SSH": str(path), "STANDIN_CF": str(programs / "cf")}
        return {"PATH": f"{programs}:{os.environ['PATH']}", **variables}

    def pcapctl(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``pcapctl cf --via ssh`` to its end."""
        return self.foundation.pcapctl(*arguments, "--via", "ssh", **{**self.variables, **variables})

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``pcapctl cf --via ssh``; what it says is in the file `said`."""
        argv, options = self.foundation.command(*arguments, "--via", "ssh", "--verbose", **self.variables)
        with self.said.open("wb") as said:
            process = subprocess.Popen(argv, **options, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        self.started.append(process)
        return process

    @property
    def said(self) -> Path:
        """The output of what was started last."""
        return self.directory / "said"

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each ``cf ssh``."""
        path = self.directory / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, *words: str, timeout: float = 30.0) -> None:
        """Wait until the started pcapctl has said all of these."""

        def there() -> bool:
            text = self.said.read_text(errors="replace")
            return all(word in text for word in words)

        wait_until(there, f"it says {words}", timeout=timeout)

    # --- the containers ---------------------------------------------------------------

    def send(self, count: int, port: int = 9999) -> None:
        """Send UDP packets from the first instance to the second."""
        target = repr((self.link.right.ipv4, port))
        code = f"import socket; s = socket.socket(2, 2); [s.sendto(b'x' * 100, {target}) for _ in range({count})]"
        self.namespaces[0].run(sys.executable, "-c", code)

    def knock(self, *ports: int) -> None:
        """Try to connect from the first instance to closed TCP ports of the second."""
        code = f"import socket; [socket.socket().connect_ex(({self.link.right.ipv4!r}, p)) for p in {ports}]"
        self.namespaces[0].run(sys.executable, "-c", code)

    def processes(self) -> list[str]:
        """The command lines of all processes in the containers."""
        lines = []
        for pid in [pid for namespace in self.namespaces for pid in namespace.pids()]:
            with contextlib.suppress(OSError):
                lines.append(shlex.join(Path(f"/proc/{pid}/cmdline").read_text().split("\0")))
        return lines


@contextlib.contextmanager
def app_over_ssh(
    directory: Path, authority: Authority, foundation: Optional[Foundation] = None
) -> Iterator[Instances]:
    """Make the app, and the foundation that it is on."""
    with contextlib.ExitStack() as stack:
        foundation = foundation or stack.enter_context(Foundation(directory, authority))
        left = stack.enter_context(Namespace.unique("myapp-0"))
        right = stack.enter_context(Namespace.unique("myapp-1"))
        files = directory / "instances"
        files.mkdir()
        instances = Instances(foundation, files, connect(left, right))
        instances.prepare()
        try:
            yield instances
        finally:
            for process in instances.started:
                process.kill()
                process.wait()
            for pid in [pid for namespace in instances.namespaces for pid in namespace.pids()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
