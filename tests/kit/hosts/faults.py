"""Machines that can fail: an api, two cells and a user's desk, each a namespace, on one switch.

::

    api 10.97.0.1 ──┐            ┌── cell-0 10.97.0.2 ── wire0 ─┐
                    ├── switch ──┤                              │  what is captured
    desk 10.97.0.4 ─┘            └── cell-1 10.97.0.3 ── wire0 ─┘

`Plant.unplug` takes a machine's port at the switch down: nothing passes any more,
and neither end is told, as with a pulled cable behind the next switch.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Iterator, Mapping, Optional

from demo.certificates import AGENT_NAME, API_NAME, Authority, Credentials
from demo.configurations import Config, agent_config, api_config, merged
from demo.daemons import Daemon, environment
from demo.namespaces import Namespace, connect, remove_stale
from demo.processes import end, wait_until
from tests.kit.hosts.chain import Client, Result, SaveFile, usage_of
from tests.kit.lab.clock import Clock
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import capinfos, tcpdump_lines, tshark_fields

PORT = 9494
#: What a shorter patience stands for in the tests that would take minutes:
#: the very same code with these instead of the values of `pcapd.limits`.
SHORT = {"TCP_USER_TIMEOUT": 4.0, "CLIENT_SILENCE_TIMEOUT": 4.0, "CLIENT_PING_INTERVAL": 1.0}
#: For pcapctl.
SHORT_CLIENT = {"API_SILENCE_TIMEOUT": 4.0}
#: Packets per second on the wire that is captured.
RATE = 1000
#: Packets that a source may lack because its agent had no processor for a while: half a second of them.
STARVED = RATE // 2
CELLS = ("cell-0", "cell-1")
SOURCES = tuple(f"{cell}:wire0" for cell in CELLS)


class Plant:
    """See the module.  Everything runs after entering and is gone after leaving.

    Args:
        directory: For certificates, configurations, logs and files.

    Attributes:
        machines: Namespaces by name: api, cell-0, cell-1, desk, switch.
        api: The api's process.
        agents: The agents' processes, by cell.
        inner: A network namespace that the agent of cell-1 may capture, there after `make_inner`.
        clocks: The wall clocks of cell-1's agent, the api and the desk, which can be stepped.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.authority = Authority(directory / "certificates")
        self.token = secrets.token_urlsafe(24)
        self.machines = {name: Namespace.unique(name) for name in ("switch", "api", *CELLS, "desk")}
        self.addresses = {name: f"10.97.0.{host}" for host, name in enumerate(list(self.machines)[1:], 1)}
        self.inner = Namespace.unique("inner")
        self._serial = itertools.count()
        self._clients: list[subprocess.Popen[Any]] = []
        self._resources = contextlib.ExitStack()
        self.agents = {
            cell: Daemon("agent", self._agent_config(cell), directory, self.machines[cell]) for cell in CELLS
        }
        self.api = Daemon("api", self._api_config(), directory, self.machines["api"])
        self.api.limits = SHORT
        self.clocks = {name: Clock(directory / f"clock-{name}") for name in ("cell-1", "api", "desk")}
        self.agents["cell-1"].variables = self.clocks["cell-1"].variables
        self.api.variables = self.clocks["api"].variables

    # --- what it is made of -------------------------------------------------

    def agent_credentials(self, name: str, **options: Any) -> Credentials:
        """Issue an agent's certificate."""
        return self.authority.issue(name, dns=(AGENT_NAME,), client=False, **options)

    def api_credentials(self, name: str, **options: Any) -> Credentials:
        """Issue the api's certificate, for both of its sides."""
        return self.authority.issue(name, dns=(API_NAME,), ips=(self.addresses["api"],), **options)

    def _agent_config(self, cell: str) -> Config:
        config = agent_config(self.agent_credentials(cell), PORT, {"inner": self.inner.path}, cell)
        return merged(config, {"listen": {"host": self.addresses[cell]}, "capture": {"max_captures": 64}})

    def _api_config(self) -> Config:
        targets = {cell: {"host": self.addresses[cell], "port": PORT} for cell in CELLS}
        targets["inner"] = {**targets["cell-1"], "namespace": "inner"}
        config = api_config(self.api_credentials("api"), PORT, targets, {"alice": self.token})
        limits = {"per_user": 100, "concurrent_captures": 100}
        return merged(config, {"listen": {"host": self.addresses["api"]}, "limits": limits})

    def _plug(self, name: str) -> None:
        machine, port = self.machines[name], f"to-{name}"
        switch = self.machines["switch"]
        switch.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
        switch.ip("link", "set", port, "master", "br0", "up")
        machine.ip("address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        machine.ip("link", "set", "eth0", "up")

    def __enter__(self) -> Plant:
        try:
            remove_stale()
            for machine in self.machines.values():
                self._resources.enter_context(machine)
            self.machines["switch"].ip("link", "add", "br0", "type", "bridge")
            self.machines["switch"].ip("link", "set", "br0", "up")
            for name in self.addresses:
                self._plug(name)
            self.link = connect(self.machines["cell-0"], self.machines["cell-1"], device="wire0", subnet=96)
            self._resources.callback(self.inner.delete)
            for daemon in (*self.agents.values(), self.api):
                daemon.launch()
                self._resources.callback(daemon._end)
            for daemon in (*self.agents.values(), self.api):
                wait_until(daemon._serves, f"{daemon.config['id']} serves", timeout=30)
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._end_clients()
        self._resources.close()

    def repair(self) -> None:
        """Make good whatever a test has broken, and end what it left running."""
        self._end_clients()
        for clock in self.clocks.values():
            clock.step(0)
        for name in self.addresses:
            self.plug(name)
        for daemon in (*self.agents.values(), self.api):
            if daemon.process.poll() is not None:
                daemon.start()
            daemon.signal(signal.SIGCONT)

    def _end_clients(self) -> None:
        while self._clients:
            _make_end(self._clients.pop())

    # --- breaking it --------------------------------------------------------

    def unplug(self, name: str) -> None:
        """Cut a machine off: whatever it sends, or is sent, is lost without a word."""
        self.machines["switch"].ip("link", "set", f"to-{name}", "down")

    def plug(self, name: str) -> None:
        """Undo `unplug`; returns when packets pass."""
        self.machines["switch"].ip("link", "set", f"to-{name}", "up")

    @contextlib.contextmanager
    def unplugged(self, name: str) -> Iterator[None]:
        """Cut off for a while."""
        self.unplug(name)
        try:
            yield
        finally:
            self.plug(name)

    # --- using it -----------------------------------------------------------

    def begin(
        self,
        *arguments: str,
        limits: Optional[Mapping[str, float]] = None,
        path: Optional[Path] = None,
        machine: str = "desk",
    ) -> Client:
        """Start ``pcapctl hosts`` with ``--json`` ; of the generator's packets unless told otherwise.

        Args:
            arguments: Targets and options.
            limits: Instead of those of `pcapd.limits`.
            path: Its file; a new one when None.
            machine: Where it runs.
        """
        path = path or self.directory / f"capture-{next(self._serial)}.pcapng"
        stem = self.directory / f"client-{next(self._serial)}"
        output, stderr = stem.with_suffix(".events"), stem.with_suffix(".stderr")
        given = ["hosts", *arguments, "--ca", str(self.authority.certificate_path)]
        given += ["--json", "--output", str(path)]
        if "--device" not in arguments:
            given += ["--device", "wire0"]
        if "--filter" not in arguments:
            given += ["--filter", FILTER]
        python = [sys.executable, *Daemon.module("pcapd.ctl", limits or {})]
        url = f"https://{self.addresses['api']}:{PORT}"
        with output.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                self.machines[machine].command(*python, *given),
                cwd=self.directory,
                env=environment(PCAP_API=url, PCAP_TOKEN=self.token, **self.clocks["desk"].variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self._clients.append(process)
        return Client(process, path, output, stderr)

    def capture(self, *arguments: str, **options: Any) -> Result:
        """Run pcapctl to its end."""
        return self.begin(*arguments, **options).wait()

    def curl(self, query: str) -> subprocess.Popen[Any]:
        """Start curl on ``/capture?query`` on the desk."""
        url = f"https://{self.addresses['api']}:{PORT}/capture?{query}"
        ca = str(self.authority.certificate_path)
        header = f"Authorization: bearer {self.token}"
        argv = ["curl", "--silent", "--fail", "--max-time", "30", "--cacert", ca, "--header", header]
        return self.machines["desk"].popen(*argv, "--output", "/dev/null", url)

    def traffic(self) -> Generator:
        """What flows from cell-0 to cell-1, to be entered."""
        return Generator(self.link, rate=RATE)

    def make_inner(self) -> None:
        """Make the namespace that target ``inner`` is."""
        self.inner.create()

    # --- looking at it ------------------------------------------------------

    def held(self, cell: str) -> dict[str, int]:
        """What captures hold in a cell: packet sockets, and wishes for promiscuity, by the kernel's count."""
        sockets = self.machines[cell].run("cat", "/proc/net/packet").stdout.splitlines()[1:]
        # The generator's, which only sends, is of no protocol.
        sockets = [line for line in sockets if line.split()[3] != "0000"]
        links = self.machines[cell].ip("-d", "-o", "link", "show").split()
        return {
            "sockets": len(sockets),
            "promiscuity": sum(int(links[at + 1]) for at, word in enumerate(links) if word == "promiscuity"),
        }

    def idle(self, *cells: str) -> bool:
        """Whether no capture is open in these cells (in any, without names)."""
        return not any(any(self.held(cell).values()) for cell in cells or CELLS)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Descriptors and threads of all daemons."""
        return usage_of({str(each.config["id"]): each.pid for each in (*self.agents.values(), self.api)})

    def audit(self) -> list[dict[str, Any]]:
        """How the api says that its captures ended, oldest first."""
        return [record for record in self.api.records() if record.get("audit") == "capture_ended"]


def _make_end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
    end(process)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since


def assert_readable(path: Path, *, ordered: bool = True) -> None:
    """Three independent readers take the file without a complaint, and see as many packets."""
    count = len(tshark_fields(path, ["frame.number"]))
    about = capinfos(path)
    assert about["Number of packets"] == str(count)
    assert about["Strict time order"] == str(ordered)
    assert len(tcpdump_lines(path)) == count


def assert_gapless(file: SaveFile, name: str) -> None:
    """The generator's packets of a source are there one by one, but for what the kernel dropped and said so.

    On a busy machine an agent may be left without a processor for longer than a
    ring lasts (docs/reliability.rst).  A fault that held up the chain would cost more.
    """
    packets, numbers = file.of(name), file.numbers(name)
    assert numbers == sorted(set(numbers)), f"{name} has a packet twice, or out of order"
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    assert missing == sum(packet.drops for packet in packets[1:]), f"{name} has holes that nobody told of"
    assert missing < STARVED, f"{name} has holes"


def assert_complete(result: Result, name: str) -> None:
    """Of one source every packet that the filter received is in the file or counted, and hardly any is missing."""
    source = result.sources[name]
    assert source["received"] == source["delivered"] + source["dropped_kernel"], source
    assert source["lost_in_transit"] == 0 and source["dropped_kernel"] < STARVED, source
    assert source["written"] == source["delivered"] == len(result.file.of(name)) > 0, source
    assert_gapless(result.file, name)


def assert_success(result: Result) -> None:
    """It ended well; 3 says that packets are missing, which is no failure where the kernel counted them."""
    assert result.status == (3 if result.report["lost"] else 0), result.stderr
