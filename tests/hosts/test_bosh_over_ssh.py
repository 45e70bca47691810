"""``pcapctl bosh --via ssh``: a director's double, real ssh servers on the VMs, and a jump host.

Whatever a test does, afterwards no account is left on a VM, no key on this machine, and no
process of ours on a VM (`operator`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.certificates import Authority
from demo.processes import wait_until
from tests.kit.doubles.https import Answer
from tests.kit.hosts.boshssh import SshOperator, World, wait_for, world_in
from tests.kit.hosts.foundation import PATIENCE
from tests.kit.lab.readers import capinfos, require, tshark_fields
from tests.kit.lab.sshhosts import new_key


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    require("sshd", "ssh", "ssh-keygen", "sudo", "tcpdump")
    with world_in(tmp_path_factory.mktemp("bosh-ssh"), authority) as world:
        yield world


@pytest.fixture
def operator(world: World, tmp_path: Path) -> Iterator[SshOperator]:
    """Return a user who is logged in."""
    world.reset()
    operator = SshOperator(world, tmp_path)
    operator.log_in()
    yield operator
    wait_until(world.director.tasks.idle, "the director has nothing to do")
    assert world.accounts() == [[], []]
    assert operator.left == []
    wait_until(lambda: not ours(world), "nothing of ours runs on the VMs", timeout=30)


def ours(world: World) -> list[str]:
    """What runs on the VMs for a capture."""
    lines = [line for host in world.hosts for line in host.processes()]
    return [line for line in lines if "tcpdump" in line or "pcapctl" in line]


def requests(world: World) -> list[dict[str, Any]]:
    """What was asked of ``/deployments/cf/ssh``, in order."""
    return [json.loads(asked.body) for asked in world.director.asked if asked.path == "/deployments/cf/ssh"]


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for its end; return the exit status and what it said."""
    out, said = process.communicate(timeout=PATIENCE)
    return process.returncode, out + said


def capturing(operator: SshOperator, *arguments: str) -> subprocess.Popen[str]:
    """Start a capture, and wait until packets are in the file."""
    process = operator.start("--duration", "60s", *arguments)
    wait_for(lambda: operator.output.exists() and operator.output.stat().st_size > 5000, process)
    return process


# --- the capture ------------------------------------------------------------------


def test_two_vms_through_a_jump_host(world: World, operator: SshOperator) -> None:
    """Both VMs are in one file, with the names that agents give; one of them only the jump host reaches."""
    require("capinfos", "tshark")
    world.director.tasks.pause = 0.4
    done = operator.pcapctl("--duration", "2s")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()[:3]] == [
        "instance",
        *(instance.name for instance in world.cf.instances),
    ]
    names = {row[0] for row in tshark_fields(operator.output, ["frame.interface_name"])}
    assert names == {f"{instance.name}:eth9" for instance in world.cf.instances}
    assert capinfos(operator.output)["Strict time order"] == "True"
    # A request for each VM, for the same new user, and the same for the clean-up.
    setups, clean_ups = requests(world)[:2], requests(world)[2:]
    assert [(one["command"], one["target"]["ids"]) for one in setups + clean_ups] == [
        (command, [instance.id]) for command in ("setup", "cleanup") for instance in world.cf.instances
    ]
    (user,) = {one["params"]["user"] for one in setups}
    assert {one["params"]["user_regex"] for one in clean_ups} == {f"^{user}$"}
    assert setups[0]["params"]["public_key"] == setups[1]["params"]["public_key"]


def test_list_of_interfaces(world: World, operator: SshOperator) -> None:
    """``-D`` lists the interfaces of the VMs; the accounts are removed afterwards."""
    done = operator.pcapctl("-D")
    assert done.returncode == 0, done.stderr
    assert f"{world.cf.instances[1].name}: eth9" in done.stdout


@pytest.mark.parametrize("problem", ["unresponsive", "changed key", "no key"])
@pytest.mark.long(but=("unresponsive", "changed key"))
def test_one_vm_fails(world: World, operator: SshOperator, tmp_path: Path, problem: str) -> None:
    """A VM without an agent, or with another host key than the director said, is named; the other goes on."""
    first, second = world.cf.instances
    if problem == "unresponsive":
        world.agents[0].responsive = False
        expected = "Timed out sending 'ssh' to instance: 'router'"
    elif problem == "changed key":
        new_key(tmp_path / "other")
        world.agents[0].host_key = (tmp_path / "other.pub").read_text()
        expected = "its host key is not the one that its BOSH agent reported"
    else:
        world.agents[0].host_key = ""
        expected = "does not tell its host key"
    done = operator.pcapctl("--duration", "1s")
    assert done.returncode == 3, done.stderr
    assert first.name in done.stderr and expected in done.stderr
    names = {row[0] for row in tshark_fields(operator.output, ["frame.interface_name"])}
    assert names == {f"{second.name}:eth9"}


def test_no_vm_at_all(world: World, operator: SshOperator) -> None:
    """Without any account nothing is captured, and the director's reasons are shown."""
    for agent in world.agents:
        agent.responsive = False
    done = operator.pcapctl()
    assert done.returncode == 1 and "no VM can be reached with ssh" in done.stderr
    assert "state error: Timed out sending" in done.stderr
    assert not operator.output.exists()
    for agent in world.agents:
        agent.responsive = True


def test_without_the_jump_host(world: World, operator: SshOperator) -> None:
    """A VM that is not reachable directly fails, and the message says how a jump host is named."""
    variables = {"BOSH_GW_DISABLE": "true"}
    done = operator.pcapctl("--duration", "1s", variables=variables)
    assert done.returncode == 3, done.stderr
    assert f"{world.cf.instances[1].name}" in done.stderr and "set BOSH_GW_HOST" in done.stderr


def test_more_vms_than_a_jump_host_accepts_at_once(world: World, operator: SshOperator) -> None:
    """sshd drops some of more than ten connections that are not authenticated, so there are fewer at once."""
    many = ("-d", "big", "--group", "web", "--yes", "--duration", "1s")
    done = operator.pcapctl(*many)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variables", ["gateway", "proxy"])
@pytest.mark.long(but=("gateway",))
def test_jump_host_of_the_environment(world: World, operator: SshOperator, variables: str) -> None:
    """BOSH_GW_* and BOSH_ALL_PROXY take precedence over what the director suggests."""
    world.director.gateway = ("nobody", "192.0.2.1")
    address, key = world.agents[0].address, world.desk.key
    given = {"BOSH_GW_HOST": address, "BOSH_GW_USER": "alice"}
    if variables == "proxy":
        given = {
            "BOSH_ALL_PROXY": f"ssh+socks5://alice@{address}:22?private-key={key}",
            "NO_PROXY": "127.0.0.1",
        }
    with tempfile.TemporaryDirectory() as short:
        # A VM's second interface shares its connection, if the path of a socket is not too long.
        given |= {"TMPDIR": short} if variables == "gateway" else {}
        done = operator.pcapctl("--duration", "1s", "--device", "lo", variables=given)
        assert os.listdir(short) == []
    world.director.gateway = ("alice", address)
    assert done.returncode == 0, done.stderr
    assert f"{world.cf.instances[1].name}:lo" in done.stderr


# --- refusals -----------------------------------------------------------------------


def test_without_permission(world: World, operator: SshOperator) -> None:
    """Who may only read the deployment is told what is needed, and nothing is to be cleaned up."""
    operator.log_in("bosh.read")
    done = operator.pcapctl()
    assert done.returncode == 1
    assert (
        "does not let you use ssh in deployment cf" in done.stderr and "bosh.teams.blue.admin" in done.stderr
    )
    assert [one["command"] for one in requests(world)].count("setup") == 1


def test_unknown_group(world: World, operator: SshOperator) -> None:
    """A group that is not there is an error as with agents, and no account is made."""
    done = operator.pcapctl("--group", "haproxy")
    assert done.returncode == 1 and "there is no group haproxy" in done.stderr
    assert requests(world) == []


def test_missing_group(world: World, operator: SshOperator) -> None:
    """One group of two that is not there makes the capture incomplete."""
    done = operator.pcapctl("--group", "router", "--group", "haproxy", "--duration", "1s")
    assert done.returncode == 3 and "there is no group haproxy" in done.stderr


def test_hostile_filter(world: World, operator: SshOperator) -> None:
    """A filter that would undo the exclusion of the ssh connection is refused before any request."""
    done = operator.pcapctl("--filter", "tcp) or (udp")
    assert done.returncode == 1 and "parentheses" in done.stderr
    assert world.director.asked == []


# --- clean-up ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signals",
    # Two signals of the same number may become one.
    [[signal.SIGINT], [signal.SIGINT, signal.SIGTERM], [signal.SIGTERM], [signal.SIGHUP]],
    ids=["Ctrl-C", "twice", "SIGTERM", "hang-up"],
)
@pytest.mark.long(but=("Ctrl-C", "twice"))
def test_clean_up_after_signals(world: World, operator: SshOperator, signals: list[int]) -> None:
    """However a capture is stopped, accounts, key and processes are gone, and the file can be read."""
    process = capturing(operator)
    assert len(operator.left) == 4, "a directory, the key in two files, and the known hosts"
    for number in signals:
        process.send_signal(number)
    status, said = finish(process)
    assert status == (1 if len(signals) == 2 else 0), said
    assert int(capinfos(operator.output)["Number of packets"]) > 0


def test_interrupted_set_up(world: World, operator: SshOperator) -> None:
    """Ctrl-C while the director still makes accounts: the clean-up waits until they can be removed."""
    world.director.tasks.pause = 1.0
    process = operator.start()
    wait_for(lambda: len(requests(world)) == 2, process)
    process.send_signal(signal.SIGINT)
    status, said = finish(process)
    assert status == 1 and "interrupted before the capture started" in said
    assert [one["command"] for one in requests(world)] == ["setup", "setup", "cleanup", "cleanup"]
    world.director.tasks.pause = 0.0


def test_clean_up_after_a_failure(world: World, operator: SshOperator) -> None:
    """A capture that fails at once, because of its filter, also cleans up."""
    done = operator.pcapctl("--filter", "no filter at all")
    assert done.returncode == 1 and "no host could be captured" in done.stderr
    assert [one["command"] for one in requests(world)][-2:] == ["cleanup", "cleanup"]


def test_failed_clean_up(world: World, operator: SshOperator) -> None:
    """If the director is gone at the end, a warning names the user and the VMs; the capture has succeeded."""
    process = capturing(operator)
    (user,) = world.hosts[0].added()
    world.director.canned["/deployments/cf/ssh"] = Answer(500)
    process.send_signal(signal.SIGINT)
    status, said = finish(process)
    assert status == 0, said
    assert f"the user {user} may be left on {world.cf.instances[0].name}" in said
    assert world.accounts() == [[user], [user]]
    for host in world.hosts:
        host.remove_accounts(user)
