"""The units of etc/systemd, run by a real systemd: all that they forbid is not needed for a capture."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

import yaml

from demo.configurations import LOCAL, Config, free_port
from demo.processes import run, wait_until
from tests.kit.hosts.chain import Chain, assert_accounted
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import require
from tests.kit.lab.systemd import Systemd, units

if os.geteuid() != 0:
    pytest.skip("systemd and captures need root", allow_module_level=True)

AGENT, API = "pcapd-agent.service", "pcapd-api.service"
NAMESPACES = units() / f"{AGENT}.d" / "namespaces.conf"

#: Bits of capabilities(7).
NET_RAW, SYS_ADMIN = 1 << 13, 1 << 21

#: What ``systemd-analyze security`` finds at most, times ten: 100 is no sandbox at all.
EXPOSED_AT_MOST = {AGENT: 20, API: 13}


@pytest.mark.parametrize("unit", [AGENT, API])
def test_the_sandbox_is_tight(unit: str, tmp_path: Path) -> None:
    """systemd's own judgement of a unit does not get worse."""
    require("systemd-analyze")
    shutil.copy(units() / unit, tmp_path)
    most = EXPOSED_AT_MOST[unit]
    run(["systemd-analyze", "security", "--offline=yes", f"--threshold={most}", str(tmp_path / unit)])


class Served(Chain):
    """A chain whose first agent and api are services of a systemd."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.agent.config |= {"run_as": "pcapd", "metrics": {"host": LOCAL, "port": free_port()}}
        self.api.config["audit"] = {"file": "/var/log/pcapd/audit.log"}
        self.api.config |= {"workers": 2, "state": "sqlite:////var/lib/pcapd/state.db"}
        self.systemd = Systemd(directory / "systemd")
        (directory / "systemd").mkdir()

    def start_daemons(self) -> None:
        """Install and start them as docs/operations.rst says."""
        self._resources.enter_context(self.systemd)
        self.systemd.add_user("pcapd")
        self.systemd.install(AGENT, NAMESPACES)
        self.systemd.install(API)
        self.configure(AGENT, self.agent.config)
        self.configure(API, self.api.config)
        self.systemd.control("start", AGENT, API)
        wait_until(self.serves, "both serve", timeout=60)

    def configure(self, unit: str, config: Config) -> None:
        """Write a configuration with copies of its certificates, which only the user pcapd can read."""
        home = self.systemd.etc / "pcapd"
        home.mkdir(exist_ok=True)
        text = yaml.safe_dump(config)
        for file in set(re.findall(rf"{re.escape(str(self.directory))}/\S+", text)):
            name = f"{unit.partition('.')[0]}-{Path(file).name}"
            shutil.copy(file, home / name)
            text = text.replace(file, name)
        (home / unit.replace(".service", ".yml")).write_text(text)
        run(["chown", "-R", f"{self.systemd.user_id('pcapd')}", str(home)])

    def serves(self) -> bool:
        """Whether both daemons listen; fails if one has ended."""
        for unit in (AGENT, API):
            state = self.systemd.show(unit, "ActiveState")
            assert state == "active", f"{unit} is {state}:\n{self.systemd.log(unit)}"
        return self.agent._accepts() and self.api._accepts()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served")) as chain:
        assert isinstance(chain, Served)
        yield chain


def status(pid: int, name: str) -> str:
    """A line of a process's status."""
    (found,) = re.findall(rf"^{name}:\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return str(found)


@pytest.mark.parametrize(("unit", "capabilities"), [(AGENT, NET_RAW | SYS_ADMIN), (API, 0)])
def test_what_a_service_may_do(served: Served, unit: str, capabilities: int) -> None:
    """A service runs as pcapd with the capabilities of its work alone, below a system-call filter."""
    pid = served.systemd.main_process(unit)
    assert status(pid, "Uid").split()[0] == served.systemd.user_id("pcapd").partition(":")[0]
    assert (int(status(pid, "CapEff"), 16), int(status(pid, "CapBnd"), 16)) == (capabilities, capabilities)
    assert (status(pid, "Seccomp"), status(pid, "NoNewPrivs")) == ("2", "1")


def test_a_capture_of_services(served: Served) -> None:
    """Services, of which the api has workers, capture with a filter trial, and write audit records."""
    long = " or ".join(f"host 10.99.0.{number}" for number in range(1, 40))
    with Generator(served.link, rate=500):
        result = served.capture(
            "web-0", "web-1", "machine", "--device", "eth0,lo", "--filter", f"({FILTER}) or {long}",
            "--duration", "1s",
        )  # fmt: skip
    assert result.status == 0, result.stderr
    assert_accounted(result)
    assert result.sources["web-0:eth0"]["delivered"] > 100
    lines = served.systemd.read("/var/log/pcapd/audit.log").splitlines()
    assert {json.loads(line)["audit"] for line in lines} >= {"capture_started", "capture_ended"}


@pytest.mark.parametrize("unit", [AGENT, API])
def test_a_reload_of_a_service(served: Served, unit: str) -> None:
    """``systemctl reload`` reads the certificates again."""
    served.systemd.control("reload", unit)
    words = "reloaded its certificates and limits"
    wait_until(lambda: words in served.systemd.log(unit), f"{unit} reloads")


def test_a_service_that_is_killed(served: Served) -> None:
    """systemd starts a killed agent again, and the next capture works."""
    old = served.systemd.main_process(AGENT)
    os.kill(old, 9)
    wait_until(
        lambda: served.systemd.show(AGENT, "NRestarts") == "1" and served.agent._accepts(),
        "it is back",
        timeout=60,
    )
    assert served.capture("web-0", "--duration", "300ms").status == 0


def test_an_agent_without_namespaces(served: Served) -> None:
    """Without the drop-in the unit has CAP_NET_RAW alone, which is enough for the machine's own interfaces."""
    config: Config = {name: value for name, value in served.agent.config.items() if name != "namespaces"}
    served.systemd.install(AGENT)
    served.configure(AGENT, config)
    try:
        served.systemd.control("restart", AGENT)
        wait_until(served.serves, "it serves", timeout=60)
        assert int(status(served.systemd.main_process(AGENT), "CapEff"), 16) == NET_RAW
        result = served.capture("machine", "--device", "lo", "--duration", "500ms")
        assert result.status == 0, result.stderr
    finally:
        served.systemd.install(AGENT, NAMESPACES)
        served.configure(AGENT, served.agent.config)
        served.systemd.control("restart", AGENT)
        wait_until(served.serves, "it serves", timeout=60)


@pytest.mark.parametrize("unit", [AGENT, API])
def test_a_stop_of_a_service(served: Served, unit: str) -> None:
    """``systemctl stop`` lets a service drain; it ends with success and has logged no error or traceback."""
    served.systemd.control("stop", unit)
    assert served.systemd.show(unit, "Result") == "success"
    log = served.systemd.log(unit)
    assert "drains" in log and "Traceback" not in log
    assert [line for line in log.splitlines() if json.loads(line)["level"] == "error"] == []
