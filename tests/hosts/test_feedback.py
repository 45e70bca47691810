"""Captures of a machine on which pcapd itself talks do not feed themselves, nor each other.

A router between the clients and the api is captured: the agent's connection to the
api passes it, the router's own to the api, and the clients' to the router.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.certificates import Authority
from demo.configurations import agent_config, api_config
from demo.daemons import Daemon, environment
from demo.namespaces import Link, Namespace, connect
from demo.processes import end, wait_until
from tests.kit.lab import forwarder

if os.geteuid() != 0:
    pytest.skip("captures and namespaces need root", allow_module_level=True)

AGENT_PORT, API_PORT, ROUTER_PORT = 9494, 8080, 443
USERS = 6
#: Bytes of a file of an idle machine, however many captures there are: what a connection carries
#: until it is recognised.  Up to 5 MB were seen on a busy machine; without recognition the file
#: grows to hundreds of megabytes.
IDLE = 12_000_000
SECONDS = 2

#: Sends without an end; and takes a few megabytes a second of it.
SOURCE = (
    "import socket\ns=socket.create_server(('',{port}))\nc=s.accept()[0]\nwhile True: c.sendall(bytes(65536))"
)
DRAIN = (
    "import socket,time\ns=socket.create_connection(({host!r},{port}))\nbegin,n=time.time(),0\n"
    "while True:\n n+=len(s.recv(65536)); time.sleep(max(0,n/5e6-(time.time()-begin)))"
)


@dataclass
class World:
    """The machines, and both daemons."""

    router: Namespace
    clients: Namespace
    outside: Link  # router - clients
    inside: Link  # router - api
    agent: Daemon
    directory: Path

    def captures(self, count: int, *arguments: str, host: str, port: int = ROUTER_PORT) -> list[Done]:
        """Run captures of the router side by side, each of another user, to their end."""
        running = []
        for number in range(count):
            path = self.directory / f"{number}.pcapng"
            url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
            argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "router", "--insecure", "--json"]
            argv += ["--api", url, "--duration", f"{SECONDS}s", "--output", str(path), "--force", *arguments]
            running.append((path, self._start(argv, PCAP_TOKEN=token(number))))
        return [Done(path, *process.communicate(timeout=60), process.returncode) for path, process in running]

    def downloads(self, count: int, *, host: str) -> list[Done]:
        """The same with curl."""
        running = []
        for number in range(count):
            path = self.directory / f"{number}.pcap"
            url = f"https://{host}:{ROUTER_PORT}/capture?target=router&device=eth0&duration={SECONDS}"
            argv = ["curl", "-skN", "-H", f"Authorization: bearer {token(number)}", "-o", str(path), url]
            running.append((path, self._start(argv)))
        return [Done(path, *process.communicate(timeout=60), process.returncode) for path, process in running]

    def _start(self, argv: list[str], **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.clients.command(*argv),
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@dataclass
class Done:
    """What a client did."""

    path: Path
    stdout: str
    stderr: str
    status: int

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def loops(self) -> list[str]:
        """Notices of connections that were left out."""
        return [
            event["message"] for event in self.events if "captured packets back" in event.get("message", "")
        ]

    @property
    def ports(self) -> set[int]:
        """TCP ports of the packets in the file."""
        fields = ["tshark", "-r", str(self.path), "-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport"]
        output = subprocess.run(fields, capture_output=True, text=True, check=True).stdout
        return {int(port) for port in output.replace("\n", "\t").split("\t") if port}


def token(number: int) -> str:
    return f"token-of-user-{number}"


@contextlib.contextmanager
def make_world(directory: Path, **limits: Any) -> Iterator[World]:
    """The machines; ``limits`` of the agent."""
    directory.mkdir(exist_ok=True)
    authority = Authority(directory / "certificates")
    with (
        Namespace.unique("router") as router,
        Namespace.unique("api") as apis,
        Namespace.unique("clients") as clients,
    ):
        outside = connect(router, clients, device="eth0", subnet=0)
        inside = connect(router, apis, device="eth1", subnet=1)
        config = agent_config(authority.issue_agent(), AGENT_PORT, {})
        config["listen"]["host"] = "::"
        agent = Daemon("agent", config, directory, router)
        agent.limits = limits
        targets = {
            "router": {"host": inside.left.ipv4, "port": AGENT_PORT},
            "router6": {"host": inside.left.ipv6, "port": AGENT_PORT},
        }
        users = {f"user-{number}": token(number) for number in range(USERS)}
        api_settings = api_config(authority.issue_api(), API_PORT, targets, users)
        api_settings["listen"]["host"] = "::"
        with agent, Daemon("api", api_settings, directory, apis):
            argv = [sys.executable, forwarder.__file__, str(ROUTER_PORT), inside.right.ipv4, str(API_PORT)]
            router.popen(*argv)
            wait_until(lambda: listens(router, ROUTER_PORT), "the router listens")
            yield World(router, clients, outside, inside, agent, directory)


def listens(namespace: Namespace, port: int) -> bool:
    return str(port) in namespace.run("ss", "-Hltn", f"sport = :{port}").stdout


@contextlib.contextmanager
def busy_connection(world: World, port: int) -> Iterator[None]:
    """Somebody else's: from the router to a server beside the clients, a few megabytes a second."""
    server = world.clients.popen(sys.executable, "-c", SOURCE.format(port=port))
    wait_until(lambda: listens(world.clients, port), "a server")
    drain = DRAIN.format(host=world.outside.right.ipv4, port=port)
    client = world.router.popen(sys.executable, "-c", drain)
    try:
        yield
    finally:
        end(client)
        end(server)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("feedback")) as world:
        yield world


# --- connections that can be named in advance ------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.long(but=("1",))
def test_what_agents_and_api_say_to_each_other(world: World, count: int) -> None:
    """On the wire between router and api nothing of pcapd's is captured, whoever captures what."""
    for done in world.captures(count, "--device", "eth1", host=world.outside.left.ipv4):
        assert done.status == 0 and done.events[-1]["packets"] == 0, done.stderr


def test_the_same_ports_elsewhere_are_captured(world: World) -> None:
    """Other connections to these ports, of other machines, are the user's business."""
    with busy_connection(world, API_PORT), busy_connection(world, AGENT_PORT):
        (done,) = world.captures(1, "--count", "500", host=world.outside.left.ipv4)
    assert {API_PORT, AGENT_PORT} <= done.ports


# --- connections that nobody can name in advance -----------------------------------


@pytest.mark.parametrize(
    ("count", "arguments", "version"),
    [
        (1, [], 4),
        (2, [], 6),
        (4, ["--filter", "tcp"], 4),
        (2, ["--snaplen", "200"], 4),
        (2, ["--headers-only"], 6),
    ],
    ids=["one", "two, IPv6", "four, with a filter", "short packets", "headers only"],
)
@pytest.mark.long(but=("one",))
def test_the_clients_own_connection(world: World, count: int, arguments: list[str], version: int) -> None:
    """The way of the captured packets back through the router is recognised, and ends."""
    host = world.outside.left.ipv4 if version == 4 else world.outside.left.ipv6
    for done in world.captures(count, *arguments, host=host):
        assert done.status == 0, done.stderr
        assert done.path.stat().st_size < IDLE


def test_downloads_through_the_router(world: World) -> None:
    """A download by curl through the router, which the api puts in order, causes no loop either."""
    for done in world.downloads(2, host=world.outside.left.ipv4):
        assert done.status == 0 and done.path.stat().st_size < IDLE


def test_without_recognition_it_would_feed_itself(tmp_path: Path) -> None:
    """The control: an agent that suspects nobody fills the file as fast as the machine can."""
    with make_world(tmp_path / "blind", LOOP_SUSPICIOUS=(10**12, 10**18)) as world:
        (done,) = world.captures(1, host=world.outside.left.ipv4)
        assert done.path.stat().st_size > 4 * IDLE and not done.loops


@pytest.mark.long
def test_others_are_not_taken_for_a_loop(world: World) -> None:
    """A connection as busy as the loop beside it is captured to the last packet."""
    with busy_connection(world, 7000):
        (done,) = world.captures(1, host=world.outside.left.ipv4)
    assert len(done.loops) == 1 and f":{ROUTER_PORT} " in done.loops[0]
    (source,) = done.events[-1]["sources"]
    assert source["received"] == source["written"] + source["drops"]["kernel"] and 7000 in done.ports
    assert source["excluded"] > 0, "those of the loop, after it was found"
