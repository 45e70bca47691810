"""Apps from end to end: real containers on cells with real agents, a real api, and doubles of the authorities.

::

    with apps_in(directory, authority) as apps:
        done = apps.pcapctl("myapp", "--duration", "1s").done()

Whatever a test does, afterwards no token is in any log (`Apps.assert_discreet`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence
from urllib.parse import urlencode

from demo.certificates import Authority
from demo.configurations import LOCAL, Config, api_config, free_port, merged
from demo.daemons import Daemon, environment
from demo.processes import CommandFailed, end, run, wait_until
from pcapd.errors import PcapdError
from tests.kit.doubles import cloud_controller as cc
from tests.kit.doubles.cloud_controller import CfApp, CloudController, Process, User
from tests.kit.doubles.signing import SigningUaa
from tests.kit.hosts.chain import Result
from tests.kit.hosts.containers import CellAgent, cell_in, public_directory
from tests.kit.hosts.overseen import SOON
from tests.kit.lab.containers import Cell, Instance

#: Seconds that a pcapctl or curl of a test may run.
PATIENCE = 60.0
#: Seconds between two rounds of traffic.
ROUND = 0.05

_serial = itertools.count()


class RealCell:
    """A cell that the api reaches over a wire, with an agent of each kind of access.

    Attributes:
        cell: Its containers.
        inside: The address of the agent that enters namespaces.
        outside: Of the one that stays on the cell.
        nobody: An address of the same network that does not answer.
    """

    def __init__(self, directory: Path, authority: Authority, port: int, number: int) -> None:
        self._authority = authority
        self._port = port
        self._number = number
        self._directory = directory
        self._resources = contextlib.ExitStack()
        # Of the block for benchmarks (RFC 2544): eight addresses for each cell of each test run.
        base = (os.getpid() * 4 + next(_serial)) % 16384 * 8
        self._network = [
            f"198.{18 + (base >> 16)}.{base >> 8 & 255}.{(base & 255) + host}" for host in range(8)
        ]
        self.inside, self.outside, self.nobody = self._network[2:5]
        self.cell: Cell
        self.agents: dict[str, CellAgent] = {}

    def start(self) -> None:
        """Make the cell and start its agents."""
        public = self._resources.enter_context(public_directory())
        self.cell = self._resources.enter_context(cell_in(public, 93 + self._number))
        self._connect()
        for access, host in (("namespace", self.inside), ("host-veth", self.outside)):
            name = f"cell-{self._number}-{access}"
            listen = {"host": host, "port": self._port}
            agent = CellAgent(self.cell, self._authority, name, containers={"access": access}, listen=listen)
            self._resources.enter_context(agent.daemon)
            self.agents[access] = agent

    def _connect(self) -> None:
        """Lay a wire from this machine to the cell."""
        device = f"pcd{os.getpid()}-{next(_serial)}"
        run(["ip", "link", "add", device, "type", "veth", "peer", "name", "mgmt0",
             "netns", self.cell.namespace.name])  # fmt: skip
        run(["ip", "address", "add", f"{self._network[1]}/29", "dev", device])
        run(["ip", "link", "set", device, "up"])
        for address in (self.inside, self.outside):
            self.cell.namespace.ip("address", "add", f"{address}/29", "dev", "mgmt0")
        self.cell.namespace.ip("link", "set", "mgmt0", "up")

    def logs(self) -> str:
        """What its agents have logged."""
        return "".join(agent.daemon.log() for agent in self.agents.values())

    def close(self) -> None:
        """End everything."""
        self._resources.close()


class Chatter:
    """Traffic of every container, all the time: on eth0 ``wire-HANDLE.``, on lo ``loop-HANDLE.``."""

    def __init__(self) -> None:
        self._talkers: dict[str, tuple[Cell, Instance]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def add(self, cell: Cell, instance: Instance) -> None:
        """Let a container talk."""
        self._talkers[instance.handle] = (cell, instance)

    def remove(self, instance: Instance) -> None:
        """Let it be silent, before it goes."""
        self._talkers.pop(instance.handle, None)

    def _talk(self) -> None:
        while not self._over.wait(ROUND):
            for cell, instance in list(self._talkers.values()):
                # It may be going away, with its namespace.
                with contextlib.suppress(OSError, PcapdError):
                    cell.ping(instance, wire(instance))
                    cell.whisper(instance, loop(instance))

    def __enter__(self) -> Chatter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _log_config(app: CfApp, process: Process, index: int) -> str:
    """What Diego tells the store of an instance, as it does: JSON in a string."""
    tags = {"app_id": app.guid, "process_id": process.guid, "process_type": process.type}
    tags |= {"instance_id": str(index), "app_name": app.name, "space_id": app.space}
    return json.dumps({"guid": app.guid, "index": index, "source_name": "CELL", "tags": tags})


def wire(instance: Instance) -> bytes:
    """What a container's echo requests carry."""
    return f"wire-{instance.handle}.".encode()


def loop(instance: Instance) -> bytes:
    """What it says to itself."""
    return f"loop-{instance.handle}.".encode()


class Pcapctl:
    """A ``pcapctl cf`` with ``--json`` as a process."""

    def __init__(self, argv: Sequence[str], home: Path, directory: Path) -> None:
        number = next(_serial)
        self.output = directory / f"capture-{number}.pcapng"
        self._events, self._errors = directory / f"events-{number}", directory / f"errors-{number}"
        command = [sys.executable, "-m", "pcapd.ctl", "cf", *argv, "--json", "--output", str(self.output)]
        with self._events.open("wb") as out, self._errors.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(CF_HOME=str(home), HOME="/nonexistent"),
                stdout=out,
                stderr=err,
            )

    def events(self) -> list[dict[str, Any]]:
        """What it has said so far."""
        lines = self._events.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def said(self) -> str:
        """All that it has said."""
        return self._events.read_text() + self._errors.read_text()

    def wait_for(self, *names: str) -> None:
        """Return when these sources have delivered packets."""

        def there() -> bool:
            assert self.process.poll() is None, self.said()
            shown = [event for event in self.events() if event["event"] == "progress"]
            packets = {one["name"]: one["packets"] for one in shown[-1]["sources"]} if shown else {}
            return all(packets.get(name) for name in names)

        wait_until(there, f"{', '.join(names)} captured", timeout=30)

    def stop(self) -> Result:
        """Ctrl-C, and wait."""
        self.process.send_signal(signal.SIGINT)
        return self.done()

    def done(self) -> Result:
        """Wait for its end."""
        status = self.process.wait(PATIENCE)
        return Result(status, self.events(), self._errors.read_text(), self.output)


class Apps:
    """See `apps_in`.

    Attributes:
        cells: With real containers.
        app: ``myapp``: instances 0 and 1 on the first cell, 2 on the second, and a worker.
        real: Its web instances' containers, by index; and the worker's.
        alice: Develops in the app's space.
    """

    def __init__(self, directory: Path, authority: Authority, api: Config, *, recorded: bool) -> None:
        self.directory = directory
        self.authority = authority
        self._api_changes = api
        self._recorded = recorded
        self.port = free_port()
        self.cells = [RealCell(directory, authority, self.port, number) for number in range(2)]
        credentials = authority.issue("authorities", dns=("localhost",), ips=(LOCAL,))
        self.cc = CloudController(credentials)
        self.uaa = SigningUaa(credentials, controller=self.cc)
        self.app = CfApp(processes=[Process(instances=[]), Process("worker", [])])
        self.alice = User(develops={self.app.space})
        self.real: dict[int, Instance] = {}
        self.worker: Instance
        self.chatter = Chatter()
        self.api: Daemon
        self.resources = contextlib.ExitStack()
        self._clients: list[Pcapctl] = []
        self._homes = itertools.count()

    def start(self) -> None:
        """Start everything."""
        for double in (self.cc, self.uaa):
            self.resources.enter_context(double)
        for cell in self.cells:
            self.resources.callback(cell.close)
            cell.start()
        self.resources.enter_context(self.chatter)
        self.cc.add(self.app)
        self.uaa.people[self.alice.name] = self.alice
        base = api_config(self.authority.issue_api(), free_port(), {}, {})
        changes: Config = {
            "agents": {"port": self.port, "connect_timeout": "1s"},
            "trusted_proxies": [LOCAL],
            "cloud_foundry": {"api": self.cc.url, "ca": str(self.authority.certificate_path)},
            "limits": {"per_user": 50},
            "static": None,
        }
        changes = merged(changes, self._api_changes)
        if self._recorded:
            changes = merged(changes, self._recordings())
        self.api = Daemon("api", merged(base, changes), self.directory)
        self.api.limits = SOON if self._recorded else {}
        self.resources.enter_context(self.api)
        self.cc.links = {"pcap": {"href": self.url}, "uaa": {"href": self.uaa.url}}
        for index, cell in enumerate((self.cells[0], self.cells[0], self.cells[1])):
            self.real[index] = self.place(self.app, index, cell)
        self.worker = self.place(self.app, 0, self.cells[1], kind=1)

    def _recordings(self) -> Config:
        self.cc.links = {"uaa": {"href": self.uaa.url}}
        return {
            "cloud_foundry": {"client": self.uaa.client},
            "recordings": {"store": f"file://{self.directory}/store", "reserve": "1MB"},
            "state": f"sqlite:///{self.directory}/state.db",
        }

    # --- apps ----------------------------------------------------------------

    def place(self, app: CfApp, index: int, cell: RealCell, kind: int = 0) -> Instance:
        """Run an instance in a new container, and let Cloud Controller know; it talks from now on."""
        process = app.processes[kind]
        one = cell.cell.run(app.guid, index, log_config=_log_config(app, process, index))
        known = [instance for instance in process.instances if instance.index == index]
        instance = known[0] if known else cc.Instance(index)
        if not known:
            process.instances.append(instance)
        instance.state, instance.host, instance.uptime = "RUNNING", cell.inside, 0
        instance.handle, instance.address = one.handle, one.address
        self.chatter.add(cell.cell, one)
        return one

    def remove(self, one: Instance, cell: RealCell) -> None:
        """Let its container go."""
        self.chatter.remove(one)
        cell.cell.delete(one)

    @contextlib.contextmanager
    def accessed(self, access: str) -> Iterator[None]:
        """Let the app's instances be captured by the agents of that kind of access."""
        hosts = {cell.inside: cell.outside for cell in self.cells}
        instances = [instance for process in self.app.processes for instance in process.instances]
        before = [instance.host for instance in instances]
        if access == "host-veth":
            for instance in instances:
                instance.host = hosts[instance.host]
        try:
            yield
        finally:
            for instance, host in zip(instances, before):
                instance.host = host

    # --- users ---------------------------------------------------------------

    def token(self, user: Optional[User] = None) -> str:
        """Sign somebody's token; alice's when nobody is named."""
        person = user or self.alice
        self.uaa.people[person.name] = person
        return self.uaa.token(user=person.name)

    def log_in(self, user: Optional[User] = None, access: Optional[str] = None, **changes: Any) -> Path:
        """Make a home with what ``cf login`` and ``cf target`` leave there."""
        person = user or self.alice
        self.uaa.people[person.name] = person
        home = self.directory / f"home-{next(self._homes)}"
        (home / ".cf").mkdir(parents=True)
        login = {
            "AccessToken": f"bearer {access or self.token(person)}",
            "AuthorizationEndpoint": self.uaa.url,
            "ConfigVersion": 4,
            "OrganizationFields": {"GUID": "org-guid", "Name": "acme"},
            "RefreshToken": self.uaa.refresh_token(user=person.name),
            "SpaceFields": {"GUID": self.app.space, "Name": "dev", "AllowSSH": True},
            "SSLDisabled": False,
            "Target": self.cc.url,
            "UaaEndpoint": self.uaa.url,
            "UAAGrantType": "",
            "UAAOAuthClient": "cf",
            "UAAOAuthClientSecret": "",
            **changes,
        }
        (home / ".cf" / "config.json").write_text(json.dumps(login, indent=2))
        return home

    def pcapctl(self, app: str, *arguments: str, home: Optional[Path] = None) -> Pcapctl:
        """Start ``pcapctl cf`` as alice, or with another login."""
        argv = [app, "--ca", str(self.authority.certificate_path), *arguments]
        client = Pcapctl(argv, home or self.log_in(), self.directory)
        self._clients.append(client)
        self.resources.callback(end, client.process)
        return client

    def capture(self, *arguments: str, seconds: float = 1.0, **options: Any) -> Result:
        """Capture ``myapp`` for a while."""
        return self.pcapctl("myapp", "--duration", f"{seconds * 1000:.0f}ms", *arguments, **options).done()

    def curl(
        self,
        *query: tuple[str, Any],
        token: Optional[str] = None,
        url: Optional[str] = None,
        headers: Sequence[str] = (),
        duration: str = "1s",
        address: str = LOCAL,
    ) -> tuple[subprocess.CompletedProcess[bytes], Path]:
        """``curl -N -H "Authorization: $(cf oauth-token)" …/capture?appid=…`` into a file."""
        path = self.directory / f"curl-{next(_serial)}.pcap"
        asked = urlencode([("appid", self.app.guid), *query, ("duration", duration)])
        given = [f"Authorization: bearer {token or self.token()}", *headers]
        argv = ["curl", "-N", "--silent", "--show-error", "--write-out", "%{http_code}"]
        argv += ["--cacert", str(self.authority.certificate_path), "--output", str(path)]
        argv += ["--interface", address]
        argv += [word for header in given for word in ("-H", header)]
        done = subprocess.run(
            [*argv, f"{url or self.url}/capture?{asked}"], capture_output=True, check=False, timeout=PATIENCE
        )
        return done, path

    # --- what is left of it --------------------------------------------------

    @property
    def url(self) -> str:
        """Where the api serves."""
        return f"https://{LOCAL}:{self.api.port}"

    def audit(self, event: str) -> list[dict[str, Any]]:
        """The audit records of one kind."""
        return [record for record in self.api.records() if record.get("audit") == event]

    def agents_log(self) -> str:
        """What all agents have logged."""
        return "".join(cell.logs() for cell in self.cells)

    def assert_discreet(self, *texts: str) -> None:
        """No token is in any log, at debug level, nor in what a client said."""
        said = [self.api.log(), self.agents_log(), *(client.said() for client in self._clients), *texts]
        assert self.api.config["log_level"] == "debug"
        for token in [*self.uaa.access_tokens, *self.uaa.refresh_tokens, *self.cc.users]:
            # The header of a token is nobody's secret, what follows is.
            for part in token.split(".")[1:]:
                assert not any(part in text for text in said), "a token was told"


@contextlib.contextmanager
def apps_in(directory: Path, authority: Authority, *, recorded: bool = False, **api: Any) -> Iterator[Apps]:
    """Apps that run; afterwards no token may have been told.

    Args:
        recorded: Whether the api has a store of recordings, and a client of its own.
        api: Laid over the api's configuration.
    """
    apps = Apps(directory, authority, api, recorded=recorded)
    with apps.resources:
        try:
            apps.start()
        except CommandFailed as error:
            raise AssertionError(f"{error}\n{apps.agents_log() if apps.cells[0].agents else ''}") from error
        yield apps
        apps.assert_discreet()


__all__ = ["Apps", "apps_in", "loop", "wire"]
