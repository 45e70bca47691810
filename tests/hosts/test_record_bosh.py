"""``pcapctl record bosh`` as a process: a director's double and its UAA, a real api with a store, agents on the VMs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from demo.certificates import Authority
from demo.processes import wait_until
from tests.kit.hosts.bosh import Environment, environment_in
from tests.kit.hosts.foundation import PATIENCE
from tests.kit.hosts.operator import Operator
from tests.kit.lab.readers import require, tshark_fields

for package in ("obstore", "sqlalchemy"):
    pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Environment]:
    """A director and an api that records."""
    directory = tmp_path_factory.mktemp("record-bosh")
    changes = {
        "state": f"sqlite:///{directory}/state.db",
        "recordings": {"store": f"file://{directory}/store", "reserve": "1MB"},
    }
    with environment_in(directory, authority, **changes) as environment:
        yield environment


@pytest.fixture
def operator(world: Environment, tmp_path: Path) -> Operator:
    """Somebody with a home, who is not logged in."""
    return Operator(world, tmp_path)


def pcapctl(operator: Operator, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pcapctl where there is no terminal."""
    ca = ["--ca", str(operator.world.authority.certificate_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pcapd.ctl", *words, *ca],
        cwd=operator.home,
        env=operator.environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    operator.assert_discreet(done.stdout + done.stderr)
    return done


def said(operator: Operator, *words: str) -> str:
    """What a pcapctl that succeeds prints."""
    done = pcapctl(operator, *words)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def test_record_and_fetch(operator: Operator) -> None:
    """VMs are recorded with the BOSH login, and fetched as one file with their names, by who may capture them."""
    require("tshark")
    operator.log_in()
    started = said(operator, "record", "bosh", "-d", "cf", "--group", "router", "--keep", "10m", "-e", "lab")
    id = started.split()[1]
    # The commands that it prints find the recording again.
    show = next(line.split()[1:] for line in started.splitlines() if " recording show " in line)
    assert show[-4:] == ["--login", "bosh", "-e", "lab"]

    def shown() -> dict[str, object]:
        return dict(json.loads(said(operator, *show, "--json")))

    wait_until(lambda: int(str(shown()["packets"])) >= 2, "packets are stored", timeout=30)
    assert json.loads(said(operator, "recordings", "--json"))["recordings"][0]["id"] == id
    said(operator, "recording", "stop", id)
    wait_until(lambda: shown()["state"] == "stopped", "it ends", timeout=20)
    said(operator, "recording", "fetch", id, "--output", str(operator.output))
    names = {row[0] for row in tshark_fields(operator.output, ["frame.interface_name"])}
    assert names == {f"{instance.name}:eth0" for instance in operator.world.cf.instances[:2]}
    # Whoever may only read the deployment now gets no packets, and may still delete what is theirs.
    operator.log_in("bosh.teams.blue.read")
    refused = pcapctl(operator, "recording", "fetch", id, "--output", str(operator.home / "refused.pcapng"))
    assert refused.returncode == 1 and not (operator.home / "refused.pcapng").exists(), refused.stderr
    said(operator, "recording", "delete", id)
    assert json.loads(said(operator, "recordings", "--json")) == {"recordings": []}


def test_a_lost_connection_names_the_login(operator: Operator) -> None:
    """The command that goes on with a capture of VMs chooses the BOSH login of the same director."""
    operator.log_in()
    path = operator.home / "x.pcapng"
    argv = operator.arguments("--resumable", "--duration", "60s", "-e", "lab", "--output", str(path))
    process = subprocess.Popen(
        argv, cwd=operator.home, env=operator.environment({}), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: path.exists() and path.stat().st_size > 0, "packets come", timeout=30)
        operator.world.api.kill()
        _, text = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        operator.world.api.start()
    assert process.returncode == 1, text
    operator.assert_discreet(text)
    command = text.splitlines()[-1].split()
    assert command[1:3] == ["recording", "fetch"] and command[-4:] == ["--login", "bosh", "-e", "lab"]
    rest = operator.home / "rest.pcapng"
    operator.world.wait_for_health(True)
    wait_until(
        lambda: pcapctl(operator, *command[1:], "--output", str(rest)).returncode == 0, "it is fetched"
    )
    assert rest.stat().st_size > 0
