"""``pcapctl bosh`` as a process: a director's double and its UAA, a real api, and agents on the VMs.

Whatever a test does, afterwards no token and no secret is in what pcapctl said
(`Operator.pcapctl`), nor in the api's log (`tests.kit.hosts.bosh.environment_in`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.certificates import Authority
from demo.configurations import agent_config, free_port, merged
from demo.daemons import Daemon
from demo.namespaces import Namespace
from demo.processes import run, wait_until
from tests.bosh.release import Issued, nested, render
from tests.kit.doubles.director import Deployment, Instance, director_error
from tests.kit.doubles.https import Answer
from tests.kit.doubles.uaa import oauth_error
from tests.kit.hosts.bosh import Environment, environment_in
from tests.kit.hosts.foundation import PATIENCE
from tests.kit.hosts.operator import ADMIN, UDP_PORT, Operator
from tests.kit.lab.proxies import Proxies
from tests.kit.lab.readers import capinfos, require, tshark_fields


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Environment]:
    with environment_in(tmp_path_factory.mktemp("pcapctl-bosh"), authority) as environment:
        many = [Instance("web", n, [environment.cells[n % 2].host]) for n in range(6)]
        environment.director.add(Deployment("big", many, ["blue"]))
        yield environment


@pytest.fixture
def operator(world: Environment, tmp_path: Path) -> Iterator[Operator]:
    for server in (world.director, world.uaa, world.evil):
        server.asked.clear()
        server.canned.clear()
    for cell in world.cells:
        cell.started.clear()
        cell.connections = 0
    world.director.info.clear()
    world.uaa.rotating = False
    yield Operator(world, tmp_path)
    world.director.canned.clear()
    world.uaa.canned.clear()
    world.director.info.clear()


def asked_uaa(operator: Operator) -> list[dict[str, list[str]]]:
    """Return the grants that were asked for."""
    return [asked.form for asked in operator.world.uaa.asked if asked.path == "/oauth/token"]


# --- the capture ------------------------------------------------------------------


def test_capture(operator: Operator) -> None:
    """pcapctl shows the VMs, and captures on all of them into one file that others can read."""
    require("capinfos")
    operator.log_in()
    before = operator.config.read_bytes()
    done = operator.pcapctl()
    assert done.returncode == 0, done.stderr
    head, *rows = done.stderr.splitlines()[:3]
    assert head.split() == ["instance", "index", "zone", "address"]
    for row, instance, cell in zip(rows, operator.world.cf.instances, operator.world.cells):
        assert row.split() == [instance.name, str(instance.index), instance.az, cell.host]
        assert [start.instance for start in cell.started] == [instance.name]
    assert int(capinfos(operator.output)["Number of packets"]) > 0
    names = {row[0] for row in tshark_fields(operator.output, ["frame.interface_name"])}
    assert names == {f"{instance.name}:eth0" for instance in operator.world.cf.instances[:2]}
    # A good token needs no UAA, and the file is as it was.
    assert asked_uaa(operator) == [] and operator.config.read_bytes() == before


@pytest.mark.parametrize("how", ["index", "id", "slug"])
def test_one_instance(operator: Operator, how: str) -> None:
    """One instance is captured by its index, its id or its name."""
    operator.log_in()
    second = operator.world.cf.instances[1]
    named = {"index": "1", "id": second.id, "slug": second.name}[how]
    done = operator.pcapctl("--instance", named)
    assert done.returncode == 0, done.stderr
    assert [start.instance for start in operator.world.cells[1].started] == [second.name]
    assert not operator.world.cells[0].started


def test_json(operator: Operator) -> None:
    """With --json the list of VMs is an event."""
    operator.log_in()
    done = operator.pcapctl("--json")
    assert done.returncode == 0, done.stderr
    first, *rest = [json.loads(line) for line in done.stdout.splitlines()]
    assert (first["event"], first["deployment"]) == ("targets", "cf")
    assert [target["index"] for target in first["targets"]] == [0, 1]
    assert rest[-1]["outcome"] == "complete"


def test_partly_there(operator: Operator) -> None:
    """A group that is not there makes it incomplete, and is named."""
    operator.log_in()
    done = operator.pcapctl("--group", "router", "--group", "haproxy")
    assert done.returncode == 3, done.stderr
    assert "there is no group haproxy" in done.stderr


# --- real agents ---------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """A VM: a network namespace with an agent in it, wired to this machine."""

    instance: Instance
    agent: Daemon

    @property
    def address(self) -> str:
        return self.instance.ips[0]


@pytest.fixture
def machines(world: Environment, tmp_path: Path) -> Iterator[list[Machine]]:
    """Two VMs, which are all of deployment `real`."""
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(2):
            host = stack.enter_context(Namespace.unique(f"vm-{number}"))
            wire, network = f"pb{os.getpid()}-{number}", f"10.{77 + number}.{os.getpid() % 250}"
            run(["ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", host.name])
            # Now: the kernel takes away what was in a namespace only after its name is gone.
            stack.callback(run, ["ip", "link", "delete", wire])
            run(["ip", "address", "add", f"{network}.1/24", "dev", wire])
            run(["ip", "link", "set", wire, "up"])
            host.ip("address", "add", f"{network}.2/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
            agent = world.authority.issue_agent(f"vm-{number}")
            config = agent_config(agent, world.agent_port, {}, f"vm-{number}")
            config = merged(config, {"listen": {"host": f"{network}.2"}})
            daemon = stack.enter_context(Daemon("agent", config, tmp_path, host))
            found.append(Machine(Instance("vm", number, [f"{network}.2"]), daemon))
        world.director.add(Deployment("real", [machine.instance for machine in found]))
        yield found


@pytest.mark.long
def test_real_agents(operator: Operator, machines: list[Machine]) -> None:
    """A VM's file part holds all the traffic of that VM, under its name, and nothing else."""
    operator.log_in()
    named = ["-d", "real", "--group", "vm", "--duration", "3s"]
    with pings(machines):
        done = operator.pcapctl(*named, "--filter", f"udp dst port {UDP_PORT}")
    assert done.returncode == 0, done.stderr
    rows = tshark_fields(operator.output, ["frame.interface_name", "ip.dst", "udp.dstport", "data.data"])
    expected = [
        [f"{machine.instance.name}:eth0", machine.address, str(UDP_PORT), b"hello".hex()]
        for machine in machines
    ]
    assert sorted(map(list, {tuple(row) for row in rows})) == sorted(expected)


@pytest.mark.long
def test_an_operators_policy(operator: Operator, machines: list[Machine], tmp_path: Path) -> None:
    """An operator's policy applies to VMs: headers only, without the excluded traffic, on the allowed interface."""
    policy = {"headers_only": True, "devices": ["eth0"], "exclude": [f"udp port {UDP_PORT + 1}"]}
    change = {"id": "policy", "listen": {"port": free_port()}, "metrics": None, "policy": policy}
    operator.log_in()
    named = ["-d", "real", "--group", "vm", "--duration", "2s"]
    with Daemon("api", merged(operator.world.api.config, change), tmp_path) as api, pings(machines):
        variables = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        refused = operator.pcapctl(*named, "--device", "lo", variables=variables)
        done = operator.pcapctl(*named, "--filter", "udp", variables=variables)
    assert refused.returncode == 1 and "interface 'lo' may not be captured" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert "packets are cut after their headers" in done.stderr
    rows = tshark_fields(operator.output, ["ip.dst", "udp.dstport", "frame.len", "frame.cap_len"])
    assert {tuple(row) for row in rows} == {
        (machine.address, str(UDP_PORT), "47", "42") for machine in machines
    }


#: Runs a command where a directory is /var/vcap.
AS_VM = 'set -e; mkdir -p /var/vcap; mount --bind "$1" /var/vcap; shift; exec "$@"'


@pytest.mark.parametrize("bpm", [True, False])
@pytest.mark.long
def test_agents_are_drained(operator: Operator, machines: list[Machine], tmp_path: Path, bpm: bool) -> None:
    """The release's drain script ends a running capture in good order: its file is whole, nothing is lost."""
    require("capinfos")
    operator.log_in()
    properties = nested({**Issued.by(operator.world.authority).agent_properties(), "bpm.enabled": bpm})
    text = render("pcap-agent", properties).files["bin/drain"]
    arguments = operator.arguments("-d", "real", "--group", "vm", "--json")
    process = subprocess.Popen(
        [argument for argument in arguments if argument not in ("--duration", "500ms")],
        env=operator.environment({}),
        cwd=operator.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        stack.enter_context(pings(machines))
        wait_until(lambda: operator.output.exists() and operator.output.stat().st_size > 5000, "packets come")
        for number, machine in enumerate(machines):
            vcap = tmp_path / f"vcap-{number}"
            job = "bpm/pcap-agent" if bpm else "pcap-agent"
            pidfile = vcap / "sys/run" / job / "pcap-agent.pid"
            pidfile.parent.mkdir(parents=True)
            pidfile.write_text(f"{machine.agent.pid}\n")
            drain = vcap / "drain"
            drain.write_text(text)
            drain.chmod(0o755)
            argv = ["unshare", "--mount", "bash", "-c", AS_VM, "vm", str(vcap), "/var/vcap/drain"]
            # The agent's own parent, which monit is on a VM, must take it away when it has ended.
            reaper = threading.Thread(target=machine.agent.wait)
            reaper.start()
            said = run([*argv, "job_shutdown", "hash_unchanged"]).stdout
            reaper.join()
            assert said == "0\n"
            assert " drained\n" in (vcap / "sys/log/pcap-agent/drain.log").read_text()
            assert machine.agent.process.returncode == 0
        out, err = process.communicate(timeout=PATIENCE)
    end = json.loads(out.splitlines()[-1])
    assert (end["event"], end["lost"]) == ("end", 0), err
    assert int(capinfos(operator.output)["Number of packets"]) == end["packets"] > 0
    assert {source["instance"] for source in end["sources"]} == {m.instance.name for m in machines}
    assert (end["exit_status"], end["reason"], end["error"]) == (3, "no target is left", None)


@contextlib.contextmanager
def pings(machines: list[Machine]) -> Iterator[None]:
    """Fifty datagrams a second to each VM."""
    stop = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.wait(0.02):
                for machine in machines:
                    sender.sendto(b"hello", (machine.address, UDP_PORT))
                    sender.sendto(b"other", (machine.address, UDP_PORT + 1))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# --- logging in -------------------------------------------------------------------


@pytest.mark.parametrize("where", ["alias", "url", "option", "config"])
@pytest.mark.long(but=("alias",))
def test_environment(operator: Operator, where: str) -> None:
    """The environment is found by alias, URL or option, which goes before the variable, from any directory."""
    operator.log_in()
    arguments, variables = [], {}
    if where == "url":
        variables = {"BOSH_ENVIRONMENT": operator.world.director.url}
    elif where == "option":
        arguments, variables = ["-e", "lab"], {"BOSH_ENVIRONMENT": "x"}
    elif where == "config":
        other = operator.home / "elsewhere"
        operator.config.rename(other)
        variables = {"BOSH_CONFIG": str(other)}
    done = operator.pcapctl(*arguments, variables=variables)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given", ["path", "text"])
def test_client(operator: Operator, given: str) -> None:
    """A client of UAA, from variables alone: no file is there afterwards."""
    variables = operator.be_client(ADMIN)
    if given == "text":
        variables["BOSH_CA_CERT"] = operator.pem
    done = operator.pcapctl(variables=variables)
    assert done.returncode == 0, done.stderr
    assert asked_uaa(operator) == [{"grant_type": ["client_credentials"]}]
    assert list(operator.config.parent.iterdir()) == []


def test_client_in_the_file(operator: Operator) -> None:
    """A client's name and secret in the BOSH CLI's file are used, and its token is not stored."""
    variables = operator.be_client(ADMIN)
    none: dict[str, Any] = {"access_token": None, "refresh_token": None, "access_token_type": None}
    operator.log_in(**none, username="ops", password=variables["BOSH_CLIENT_SECRET"])
    before = operator.config.read_bytes()
    done = operator.pcapctl()
    assert done.returncode == 0, done.stderr
    assert operator.config.read_bytes() == before


@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.long
def test_expired_token_is_refreshed(operator: Operator, rotating: bool) -> None:
    """A refreshed token is stored where the BOSH CLI looks for it, and used the next time."""
    operator.log_in(left=-1)
    operator.world.uaa.rotating = rotating
    before = operator.entry
    done = operator.pcapctl("--verbose")
    assert done.returncode == 0, done.stderr
    assert "your BOSH login was refreshed" in done.stderr
    after = operator.entry
    assert after["access_token"] != before["access_token"]
    assert (after["refresh_token"] != before["refresh_token"]) is rotating
    same = {"access_token", "refresh_token"}
    assert {k: v for k, v in after.items() if k not in same} == {
        k: v for k, v in before.items() if k not in same
    }
    assert stat.S_IMODE(operator.config.stat().st_mode) == 0o600
    assert [path.name for path in operator.config.parent.iterdir()] == ["config"]
    assert operator.pcapctl().returncode == 0
    assert len(asked_uaa(operator)) == 1


def test_token_ended_before_its_time(operator: Operator) -> None:
    """The director refuses a token that looks good: it is refreshed once, and it works."""
    operator.log_in()
    del operator.world.uaa.access_tokens[operator.entry["access_token"]]
    done = operator.pcapctl()
    assert done.returncode == 0, done.stderr
    assert len(asked_uaa(operator)) == 1


def test_refused_refresh(operator: Operator) -> None:
    """The login is over: how to get another; the file is as it was."""
    operator.log_in(left=-1)
    operator.world.uaa.refresh_tokens.clear()
    operator.secrets.add(operator.entry["refresh_token"])
    before = operator.config.read_bytes()
    done = operator.pcapctl()
    assert (done.returncode, done.stdout) == (1, "")
    assert "your BOSH login has expired" in done.stderr and "log-in" in done.stderr
    assert operator.config.read_bytes() == before
    operator.assert_nothing_captured()


def test_refused_client(operator: Operator) -> None:
    """A client with a wrong secret is refused, and the message names the variable."""
    variables = operator.be_client(ADMIN)
    operator.secrets.add("wrong-secret")
    done = operator.pcapctl(variables={**variables, "BOSH_CLIENT_SECRET": "wrong-secret"})
    assert done.returncode == 1
    assert "does not accept client ops" in done.stderr and "BOSH_CLIENT_SECRET" in done.stderr


def test_uaa_in_trouble(operator: Operator) -> None:
    """A UAA that answers 503 is reported with its status."""
    operator.log_in(left=-1)
    operator.world.uaa.canned["/oauth/token"] = oauth_error(503, "unavailable", "no")
    done = operator.pcapctl()
    assert done.returncode == 1 and "did not issue a token: HTTP status 503" in done.stderr


def test_not_logged_in(operator: Operator) -> None:
    """Without a login nothing is sent to the director or UAA."""
    done = operator.pcapctl()
    assert done.returncode == 1
    assert "not logged in to lab" in done.stderr and "bosh -e lab log-in" in done.stderr
    # The api looks for its director on its own.
    assert set(operator.world.director.paths()) <= {"/info"}


@pytest.mark.parametrize("named", ["nowhere.invalid", "https://nowhere.invalid:25555"])
def test_unknown_environment(operator: Operator, named: str) -> None:
    """An environment that is neither an alias nor a host is refused."""
    operator.log_in()
    variables = {**operator.be_client(ADMIN), "BOSH_ENVIRONMENT": named}
    done = operator.pcapctl(variables=variables)
    assert done.returncode == 1
    assert "nowhere.invalid" in done.stderr and "bosh environments" in done.stderr


def test_no_environment(operator: Operator) -> None:
    """Without an environment the message names BOSH_ENVIRONMENT."""
    done = operator.pcapctl(variables={"BOSH_ENVIRONMENT": ""})
    assert done.returncode == 1 and "set BOSH_ENVIRONMENT" in done.stderr


def test_wrong_authority(operator: Operator, tmp_path: Path) -> None:
    """A director with a certificate of another CA gets no token."""
    other = Authority(tmp_path / "other")
    operator.log_in(ca_cert=other.certificate_path.read_text())
    done = operator.pcapctl()
    assert done.returncode == 1
    assert "certificate" in done.stderr and "BOSH_CA_CERT" in done.stderr
    assert not any("authorization" in asked.headers for asked in operator.world.director.asked)
    operator.assert_nothing_captured()


def test_authority_is_nonsense(operator: Operator) -> None:
    """A BOSH_CA_CERT that is neither PEM nor a file is reported."""
    operator.log_in()
    done = operator.pcapctl(variables={"BOSH_CA_CERT": "/nonexistent/ca.pem"})
    assert done.returncode == 1 and "BOSH_CA_CERT must be PEM" in done.stderr


@pytest.mark.parametrize("scheme", ["ssh+socks5", "socks5"])
def test_a_jump_box(operator: Operator, tmp_path: Path, scheme: str) -> None:
    """Director, UAA and api are reached through BOSH_ALL_PROXY, which goes before the other proxy variables."""
    require("unshare", "ssh", "ssh-keygen", "/usr/sbin/sshd")
    operator.log_in(left=-10)  # UAA is asked, too
    proxies = Proxies(tmp_path, "jumpbox")
    with proxies.ssh() if scheme == "ssh+socks5" else proxies.socks() as address:
        before = proxies.logins
        rest = f"root@{address}?private-key={proxies.key}" if scheme == "ssh+socks5" else address
        variables = {"BOSH_ALL_PROXY": f"{scheme}://{rest}", "HTTPS_PROXY": "http://127.0.0.1:1"}
        done = operator.pcapctl(variables=variables)
        assert done.returncode == 0, done.stderr
        # One for each connection; ssh -D had logged in before.
        assert scheme == "socks5" or proxies.logins - before >= 3
    capinfos(operator.output)


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("ssh+socks5://root@{}?private-key=/nonexistent/key", "ssh to 127.0.0.1: "),
        ("ssh+socks5://root@127.0.0.1:1", "ssh to 127.0.0.1: "),
        ("socks5://127.0.0.1:1", "cannot connect to the proxy 127.0.0.1 port 1"),
    ],
)
@pytest.mark.long
def test_a_jump_box_that_does_not_help(operator: Operator, tmp_path: Path, proxy: str, words: str) -> None:
    """When the jump box fails, the message has ssh's error and the variable."""
    require("unshare", "ssh", "ssh-keygen", "/usr/sbin/sshd")
    operator.log_in()
    with Proxies(tmp_path, "jumpbox").ssh() as address:
        done = operator.pcapctl(variables={"BOSH_ALL_PROXY": proxy.format(address)})
    assert done.returncode == 1 and words in done.stderr and "check BOSH_ALL_PROXY" in done.stderr
    assert "Traceback" not in done.stderr


# --- what the director and the api say ---------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-d", "cf2"], "there is no deployment cf2"),
        (["--group", "haproxy"], "there is no group haproxy"),
        (["--instance", "7"], "there is no instance 7"),
        (["--group", "smoke-tests"], "has no VM"),
    ],
)
def test_nothing_there(operator: Operator, arguments: list[str], words: str) -> None:
    """A deployment, group or instance that does not exist is reported with the command that lists them."""
    operator.log_in()
    done = operator.pcapctl(*arguments)
    assert done.returncode == 1
    assert words in done.stderr and "bosh" in done.stderr
    operator.assert_nothing_captured()


def test_may_not_read(operator: Operator) -> None:
    """A user whom the director refuses to read is told so."""
    operator.log_in("bosh.teams.red.admin")
    done = operator.pcapctl()
    assert done.returncode == 1 and "does not let this token read deployment cf" in done.stderr
    operator.assert_nothing_captured()


def test_may_read_but_not_capture(operator: Operator) -> None:
    """The director shows the VMs; the api refuses the capture: 403."""
    operator.log_in("bosh.teams.blue.read")
    done = operator.pcapctl()
    assert done.returncode == 1
    assert "alice may not capture on deployment cf" in done.stderr
    assert "bosh.teams.TEAM.admin" in done.stderr
    operator.assert_nothing_captured()


def test_team_admin(operator: Operator) -> None:
    """A team's admin can capture the team's deployment."""
    operator.log_in("bosh.teams.blue.admin")
    assert operator.pcapctl().returncode == 0


def test_director_in_trouble(operator: Operator) -> None:
    """A director that answers 500 is reported with its status."""
    operator.log_in()
    operator.world.director.canned["/deployments/cf/instances"] = director_error(500, 1, "no")
    done = operator.pcapctl()
    assert done.returncode == 1 and "the director answered with an error (500)" in done.stderr


def test_names_are_not_shown_raw(operator: Operator) -> None:
    """A terminal's control characters in what the director says do not reach it."""
    operator.log_in()
    vm = Instance("router", 0, [operator.world.cells[0].host], az="z\x1b[2J1").entry()
    answer = Answer(body=json.dumps([vm]).encode())
    operator.world.director.canned["/deployments/cf/instances"] = answer
    done = operator.pcapctl()
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr + done.stdout and "z?[2J1" in done.stderr


def test_group_with_control_characters(operator: Operator) -> None:
    """A group name with control characters is refused, and they do not reach the terminal."""
    operator.log_in()
    vm = Instance("rou\x1b[2Jter", 0, [operator.world.cells[0].host]).entry()
    answer = Answer(body=json.dumps([vm]).encode())
    operator.world.director.canned["/deployments/cf/instances"] = answer
    done = operator.pcapctl()
    assert done.returncode == 1 and "makes no sense" in done.stderr and "\x1b" not in done.stderr


# --- usage ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["-d", "c/f"], {}, "is not the name of a deployment"),
        (["-d", "c\x1bf"], {}, "a name must have"),
        (["--group", "../x"], {}, "is not the name of an instance group"),
        (["--instance", "a/b/c"], {}, "is not the id or index"),
        ([], {"PCAP_API": ""}, "no api"),
        ([], {"PCAP_API": "http://192.0.2.1"}, "https"),
    ],
)
def test_usage(operator: Operator, arguments: list[str], variables: dict[str, str], words: str) -> None:
    """Exit status 2 before anybody is asked."""
    operator.log_in()
    done = operator.pcapctl(*arguments, variables=variables)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "\x1b" not in done.stderr
    assert "/deployments/cf/instances" not in operator.world.director.paths()


def test_deployment_from_the_environment(operator: Operator) -> None:
    """The deployment comes from BOSH_DEPLOYMENT when the command line has none."""
    operator.log_in()
    command = [argument for argument in operator.arguments() if argument not in ("-d", "cf")]
    for deployment, status in (("cf", 0), ("", 2)):
        environ = operator.environment({"BOSH_DEPLOYMENT": deployment})
        done = subprocess.run(
            command,
            env=environ,
            cwd=operator.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, done.stderr
    assert "set BOSH_DEPLOYMENT" in done.stderr


# --- more than five -----------------------------------------------------------------

BIG = ("-d", "big", "--group", "web")


def test_nobody_to_ask(operator: Operator) -> None:
    """More than five VMs without a terminal for the question are refused with their names and --yes."""
    operator.log_in()
    done = operator.pcapctl(*BIG)
    assert done.returncode == 2
    assert done.stderr.count("web/") == 6 and "--yes" in done.stderr
    operator.assert_nothing_captured()


def test_yes(operator: Operator) -> None:
    """--yes captures more than five VMs without a question."""
    operator.log_in()
    done = operator.pcapctl(*BIG, "--yes")
    assert done.returncode == 0, done.stderr
    assert sum(len(cell.started) for cell in operator.world.cells) == 6


def test_five_are_not_asked_for(operator: Operator) -> None:
    """Five VMs are captured without a question."""
    operator.log_in()
    chosen = [argument for n in range(5) for argument in ("--instance", str(n))]
    done = operator.pcapctl(*BIG, *chosen)
    assert done.returncode == 0, done.stderr


def test_agreed(operator: Operator) -> None:
    """The answer y to the question starts the capture."""
    operator.log_in()
    status, shown = operator.at_terminal("y\n", *BIG)
    assert status == 0, shown
    assert "Capture on these 6 VMs? [y/N]" in shown


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_not_agreed(operator: Operator, answer: str) -> None:
    """Any other answer to the question ends pcapctl without a capture."""
    operator.log_in()
    status, shown = operator.at_terminal(answer, *BIG)
    assert status == 1 and "nothing was captured" in shown
    operator.assert_nothing_captured()


def test_quiet_does_not_hide_the_question(operator: Operator) -> None:
    """--quiet still prints the VMs that need confirmation."""
    operator.log_in()
    done = operator.pcapctl(*BIG, "--quiet")
    assert done.returncode == 2 and done.stderr.count("web/") == 6


def test_quiet(operator: Operator) -> None:
    """With --quiet the table of VMs is printed only with a question."""
    operator.log_in()
    done = operator.pcapctl(*BIG, "--quiet", "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_scripts_are_not_asked(operator: Operator) -> None:
    """With --json no question is asked, even at a terminal."""
    operator.log_in()
    status, shown = operator.at_terminal("y\n", *BIG, "--json")
    assert status == 2 and "--yes" in shown and "[y/N]" not in shown
    operator.assert_nothing_captured()


# --- in Wireshark -------------------------------------------------------------------


def tshark(operator: Operator, **preferences: str) -> subprocess.CompletedProcess[str]:
    """Capture with tshark from "BOSH VMs" into the operator's file."""
    require("tshark", "dumpcap")
    environment = operator.environment({"XDG_CONFIG_HOME": str(operator.home / ".config")})
    options: dict[str, Any] = {"cwd": operator.home, "env": environment, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-m", "pcapd.ctl", "extcap", "--install"], check=True, **options)
    given = {
        "api": operator.world.url,
        "ca": str(operator.world.authority.certificate_path),
        "duration": "1s",
    }
    argv = ["tshark", "-i", "pcapctl-bosh", "-w", str(operator.output)]
    for name, value in {**given, **preferences}.items():
        argv += ["-o", f"extcap.pcapctl_bosh.{name}:{value}"]
    done = subprocess.run(argv, check=False, timeout=PATIENCE, **options)
    operator.assert_discreet(done.stdout + done.stderr)
    return done


def test_in_wireshark(operator: Operator) -> None:
    """In Wireshark each packet carries its VM's name, and the end of the duration ends tshark."""
    operator.log_in()
    done = tshark(operator, deployment="cf", groups="router", instances="0, 1")
    assert done.returncode == 0 and "pcapctl: " not in done.stderr, done.stderr
    names = {row[0] for row in tshark_fields(operator.output, ["frame.interface_name"])}
    assert names == {f"{instance.name}:eth0" for instance in operator.world.cf.instances[:2]}
    capinfos(operator.output)


@pytest.mark.long
def test_many_vms_in_wireshark(operator: Operator) -> None:
    """More than five VMs in Wireshark are refused with all their names, unless the options confirm them."""
    operator.log_in()
    done = tshark(operator, deployment="big", groups="web")
    assert "6 VMs are more than 5" in done.stderr and "web/" in done.stderr
    operator.world.assert_no_agent_was_asked()
    done = tshark(operator, deployment="big", groups="web", yes="true")
    assert "pcapctl: " not in done.stderr, done.stderr
    assert len({row[0] for row in tshark_fields(operator.output, ["frame.interface_name"])}) == 6


@pytest.mark.parametrize(
    ("preferences", "words"),
    [
        ({}, "no deployment"),
        ({"deployment": "cf"}, "no instance group"),
        ({"deployment": "cf", "groups": "nonsense"}, "nonsense"),
        ({"deployment": "cf", "groups": "router", "environment": "elsewhere"}, "elsewhere"),
    ],
)
@pytest.mark.long
def test_errors_in_wireshark(operator: Operator, preferences: dict[str, str], words: str) -> None:
    """Errors of BOSH are shown by tshark, and no agent is asked."""
    operator.log_in()
    done = tshark(operator, **preferences)
    assert "pcapctl: " in done.stderr and words in done.stderr
    operator.world.assert_no_agent_was_asked()
