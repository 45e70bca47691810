"""A BOSH deployment whose VMs have real ssh servers, and a director who makes accounts there.

::

    desk: director, UAA, pcapctl ── eth0 ── router-0 ── eth9 ── router-1

The address of router-1 is on the wire between the VMs: the desk reaches it only through router-0,
which is also the jump host.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, cast

from demo.certificates import Authority
from demo.configurations import LOCAL
from tests.kit.doubles.director import Deployment, Director, Instance
from tests.kit.doubles.directortasks import Unresponsive
from tests.kit.doubles.uaa import Uaa
from tests.kit.hosts.bosh import Environment
from tests.kit.hosts.operator import UDP_PORT, Operator
from tests.kit.lab.inside import inside
from tests.kit.lab.sshhosts import Desk, SshHost, new_key, ssh_hosts

#: Sends a numbered datagram every 5 ms.
_SENDER = """
import socket, sys, time
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(10**6):
    to.sendto(b"%06d" % number, (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.005)
"""


@dataclass
class Agent:
    """The agent of a VM.

    Attributes:
        address: The VM's default address.
        host_key: What it says about the server's key; None for the truth, which is the RSA key.
        responsive: Whether it answers.
    """

    host: SshHost
    address: str
    host_key: Optional[str] = None
    responsive: bool = True

    def set_up(self, user: str, public_key: str) -> Mapping[str, Any]:
        """Make the account."""
        if not self.responsive:
            raise Unresponsive(
                "Timed out sending 'ssh' to instance: 'router', agent-id: 'a-1' after 45 seconds"
            )
        if user not in self.host.added():
            self.host.add_account(user, public_key)
        key = rsa_key(self.host).with_suffix(".pub").read_text() if self.host_key is None else self.host_key
        return {"ip": self.address, "host_public_key": key}

    def clean_up(self, pattern: str) -> None:
        """Remove the accounts."""
        if not self.responsive:
            raise Unresponsive(
                "Timed out sending 'ssh' to instance: 'router', agent-id: 'a-1' after 45 seconds"
            )
        self.host.remove_accounts(pattern)


@dataclass
class World:
    """The deployment `cf`, with the group router of two VMs; in `big` one VM seems to be twelve."""

    authority: Authority
    desk: Desk
    director: Director
    uaa: Uaa
    cf: Deployment
    agents: list[Agent]
    #: There is no api.
    url: str = ""

    @property
    def hosts(self) -> list[SshHost]:
        return [agent.host for agent in self.agents]

    def accounts(self) -> list[list[str]]:
        """The users that were made and not removed, by VM."""
        return [host.added() for host in self.hosts]

    def reset(self) -> None:
        """Everything works again."""
        self.director.asked.clear()
        self.director.canned.clear()
        self.director.tasks.pause = 0.0
        for agent in self.agents:
            agent.host_key, agent.responsive = None, True
            agent.host.remove_accounts(".")


class SshOperator(Operator):
    """An operator at the desk, who has the key of the jump host."""

    def __init__(self, world: World, directory: Path) -> None:
        super().__init__(cast(Environment, world), directory)
        self.place = world
        self.temporary = self.home / "tmp"
        self.temporary.mkdir()
        self.variables |= {"TMPDIR": str(self.temporary), "BOSH_GW_PRIVATE_KEY": str(world.desk.key)}

    def arguments(self, *arguments: str) -> list[str]:
        """Make the command line."""
        taken = ["--via", "ssh", "--device", "eth9", "--filter", f"udp port {UDP_PORT}"]
        return self.place.desk.namespace.command(*super().arguments(*taken, *arguments))

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start it; it ends at the latest with the desk."""
        process = subprocess.Popen(
            self.arguments(*arguments),
            cwd=self.home,
            env=self.environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.place.desk.namespace.adopt(process)
        return process

    @property
    def left(self) -> list[str]:
        """The files that it has left in its directory for temporary files."""
        return [path.name for path in self.temporary.rglob("*")]


@contextlib.contextmanager
def world_in(directory: Path, authority: Authority) -> Iterator[World]:
    """Everything is up, and datagrams go from one VM to the other."""
    names = ("router-0", "router-1")
    with ssh_hosts(directory, names) as desk, contextlib.ExitStack() as stack:
        banner = directory / "banner"
        banner.write_text("Unauthorized use is strictly prohibited. All access is monitored.\n")
        for name in names:
            # As in stemcells.
            host = desk.hosts[name]
            new_key(rsa_key(host), "rsa")
            host.options = (f"Banner={banner}", "MaxAuthTries=3", "UseDNS=no", f"HostKey={rsa_key(host)}")
            # The default is 10:30:100, which drops connections at random.
            host.options += ("MaxStartups=10:100:10",)
            host.serve(desk.key.with_suffix(".pub"))
        credentials = authority.issue("director", dns=("localhost",), ips=(LOCAL,))
        uaa = Uaa(credentials)
        director = Director(credentials, uaa)
        for double in (uaa, director):
            stack.callback(double.stop)
            inside(desk.namespace, double.start).join()
        # router-0 has its address on the desk's side, router-1 on the wire.
        addresses = [desk.hosts["router-0"].address, desk.wire.right.ipv4]
        instances = [Instance("router", index, [address]) for index, address in enumerate(addresses)]
        cf = director.add(Deployment("cf", instances, ["blue"]))
        many = [Instance("web", index, addresses[1:]) for index in range(12)]
        director.add(Deployment("big", many, ["blue"]))
        agents = [Agent(desk.hosts[name], address) for name, address in zip(names, addresses)]
        director.agents.update({instance.id: agent for instance, agent in zip(instances, agents)})
        director.agents.update({instance.id: agents[1] for instance in many})
        director.gateway = ("alice", addresses[0])
        sender = [sys.executable, "-c", _SENDER, desk.wire.right.ipv4, str(UDP_PORT)]
        desk.hosts["router-0"].namespace.popen(*sender)
        yield World(authority, desk, director, uaa, cf, agents)


def rsa_key(host: SshHost) -> Path:
    """The key that agents report, although the server has another one, which ssh would prefer."""
    return host.directory / "rsa_key"


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 30.0) -> None:
    """Wait until something holds, while a process runs."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)
