"""The jobs on a VM: packaged by their scripts, run by real monit, drained by their drain scripts.

All of it twice: with the jobs' own control scripts, and in bpm's containers (`tests.bosh.bpm`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from demo.certificates import AGENT_NAME
from demo.processes import end, run, wait_until
from pcapd.wire import Container, Source
from tests.bosh.release import JOBS, RELEASE, Issued, nested, render
from tests.bosh.vm import AppContainer, Machine, compile_pcapd
from tests.kit.lab.callers import AgentCaller

pytestmark = pytest.mark.long

BPM = Path(__file__).with_name("bpm.py")
TOKEN = "a-token-of-the-monit-test"
#: Of the VM's eth0, to nobody: one datagram every ten milliseconds.
TRAFFIC = """
import socket, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    out.sendto(b"datagram", ("10.0.0.9", 4242))
    time.sleep(0.01)
"""
MONITRC = """
set daemon 1
set log /var/vcap/monit/monit.log
set pidfile /var/vcap/monit/monit.pid
set statefile /var/vcap/monit/monit.state
set idfile /var/vcap/monit/monit.id
set httpd port 2822 and use address 127.0.0.1
  allow 127.0.0.1
include /var/vcap/jobs/*/monit
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What bin/bosh-blobs collects, for the Python of this machine."""
    directory = tmp_path_factory.mktemp("wheels")
    lines = [line for line in (RELEASE / "config/wheels.lock").read_text().splitlines() if "==" in line]
    wanted = [line.split()[0] for line in lines]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory)]
    run([*pip, "--no-binary", "pcapy-ng,python-prctl", *wanted], timeout=300)
    return directory


class Vm(Machine):
    """A VM under monit.

    Args:
        bpm: Whether bpm runs the jobs.
    """

    def __init__(self, directory: Path, *, bpm: bool) -> None:
        super().__init__(directory)
        self.bpm = bpm
        self._monit: Optional[subprocess.Popen[Any]] = None

    def install(self, packages: Path, **jobs: dict[str, Any]) -> None:
        """Lay out packages and jobs as the BOSH agent does.

        Args:
            packages: Compiled ones.
            jobs: Properties by the job's name, with underscores.
        """
        (self.directory / "data").mkdir(exist_ok=True)
        run(["cp", "-a", str(packages), str(self.directory / "packages")])
        for name, properties in jobs.items():
            job = name.replace("_", "-")
            rendered = render(job, nested({**properties, "bpm.enabled": self.bpm, "open_files": 1024}))
            rendered.write(self.directory / "jobs" / job)
        (self.directory / "monit").mkdir()
        monitrc = self.directory / "monit/monitrc"
        monitrc.write_text(MONITRC)
        monitrc.chmod(0o600)
        if self.bpm:
            self._install_bpm()

    def _install_bpm(self) -> None:
        directory = self.directory / "jobs/bpm/bin"
        directory.mkdir(parents=True)
        shutil.copy(BPM, directory)
        (directory / "bpm").write_text(
            f"#!/bin/sh\nPYTHON_ALSO_AT={sys.base_prefix}"
            ' exec /var/vcap/packages/python-3.12/bin/python3 /var/vcap/jobs/bpm/bin/bpm.py "$@"\n'
        )
        (directory / "bpm").chmod(0o755)

    def __enter__(self) -> Vm:
        super().__enter__()
        self._monit = subprocess.Popen(self.command("monit", "-I", "-c", "/var/vcap/monit/monitrc"))
        return self

    def __exit__(self, *details: Any) -> None:
        assert self._monit is not None
        end(self._monit)
        super().__exit__(*details)

    def job(self, name: str) -> Path:
        return Path("/var/vcap/jobs") / name

    def monit(self, *arguments: str) -> None:
        self.run("monit", "-c", "/var/vcap/monit/monitrc", *arguments)

    def pid(self, job: str) -> int:
        """From the pid file that monit looks at; 0 without one."""
        path = self.directory / "sys/run" / ("bpm" if self.bpm else "") / job / f"{job}.pid"
        text = path.read_text() if path.exists() else ""
        return int(text or 0)  # it is empty while it is being written

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.directory.glob("sys/log/**/*.log")))

    def pcapctl(self, *arguments: str) -> list[str]:
        """Command line of a client that asks this VM's api for the VM itself."""
        argv = ["env", f"PCAP_TOKEN={TOKEN}", "PCAP_API=https://localhost:8080"]
        ca = "/var/vcap/jobs/pcap-api/config/tls/agents_ca.crt"
        argv += [
            "/var/vcap/packages/pcapd/bin/pcapctl",
            "hosts",
            "vm",
            "--ca",
            ca,
            "--filter",
            "udp port 4242",
        ]
        return self.command(*argv, *arguments)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """Compiled, as a compilation VM of the director's does it."""
    directory = tmp_path_factory.mktemp("compilation")
    with Machine(directory) as machine:
        compile_pcapd(machine, wheels)
    return directory / "packages"


@pytest.fixture(scope="module", params=["control scripts", "bpm"])
def vm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, packages: Path, issued: Issued
) -> Iterator[Vm]:
    """With both jobs."""
    vm = Vm(tmp_path_factory.mktemp("vcap"), bpm=request.param == "bpm")
    hashed = sha256(TOKEN.encode()).hexdigest()
    vm.install(
        packages,
        pcap_api={
            **issued.api_properties(),
            "static.users": {"alice": {"token_sha256": hashed, "targets": ["*"]}},
            "static.targets": {"vm": {"host": "127.0.0.1"}},
            "workers": 2,
        },
        pcap_agent=issued.agent_properties(),
    )
    with vm:
        traffic = subprocess.Popen(vm.command("/usr/bin/env", "python3", "-c", TRAFFIC))
        try:
            yield vm
        finally:
            end(traffic)


def test_the_package_is_complete(vm: Vm) -> None:
    """The compiled package needs no writing at run time, and pip is gone."""
    package = vm.directory / "packages/pcapd"
    assert list(package.glob("lib/python*/site-packages/twisted/plugins/dropin.cache"))
    assert not list(package.glob("lib/python*/site-packages/pip"))
    assert "pcapd" in vm.run("/var/vcap/packages/pcapd/bin/pcapd", "--version").stdout
    assert (package / "cli/pcapctl").stat().st_mode & 0o777 == 0o755


def test_start_health_restart_capture_drain_stop(vm: Vm) -> None:
    """The jobs go through their life on a VM in its order: start, health, restart, capture, drain, stop."""
    for job in JOBS:
        started(vm, job)
    vm.run(str(vm.job("pcap-api") / "bin/route-health"))
    check_privileges(vm)

    # monit starts again what was killed.
    for job in JOBS:
        before = vm.pid(job)
        vm.run("kill", "-KILL", str(before))
        wait_until(lambda job=job, before=before: vm.pid(job) != before, f"monit restarts {job}", timeout=60)  # type: ignore[misc]
        started(vm, job)

    done = run(vm.pcapctl("--count", "20", "--output", "/var/vcap/data/first.pcapng"))
    assert "20 packets" in done.stderr, done.stderr
    assert _packets(vm.directory / "data/first.pcapng") == 20

    # A capture that runs while its agent or the api drains has its end and a complete file.
    check_drain(vm, "pcap-agent", "its agent is shutting down")
    vm.run(str(vm.job("pcap-agent") / "bin/drain"), "job_shutdown", "hash_unchanged")
    assert "there is nothing to drain" in (vm.directory / "sys/log/pcap-agent/drain.log").read_text()
    vm.monit("start", "pcap-agent")
    started(vm, "pcap-agent")
    check_drain(vm, "pcap-api", "the api is shutting down")

    records = [
        json.loads(line) for line in (vm.directory / "sys/log/pcap-api/audit.log").read_text().splitlines()
    ]
    assert [record["audit"] for record in records] == ["capture_started", "capture_ended"] * 3
    reasons = [record["reason"] for record in records if "reason" in record]
    assert reasons[0] == "stopped" and reasons[2] == "draining"
    assert TOKEN not in vm.log()

    vm.monit("stop", "all")
    wait_until(lambda: not any("pcapd" in argv for argv in vm.processes().values()), "all end", timeout=60)


def started(vm: Vm, job: str) -> None:
    """Wait until monit has started it and it is healthy."""
    wait_until(lambda: vm.pid(job) in vm.processes(), f"monit starts {job}", timeout=60)
    vm.run(str(vm.job(job) / "bin/post-start"), timeout=90)


def check_privileges(vm: Vm) -> None:
    """Both are vcap by now, the api without any capability, the agent with CAP_NET_RAW (bit 13) alone."""
    for job, expected in (("pcap-api", 0), ("pcap-agent", 1 << 13)):
        facts = _status(vm, vm.pid(job))
        assert set(facts["Uid"].split()) == {vm.run("id", "-u", "vcap").stdout.strip()}
        assert [int(facts[name], 16) for name in ("CapPrm", "CapEff")] == [expected] * 2, job
        assert facts["NoNewPrivs"] == "1"
        if vm.bpm:
            assert facts["Seccomp"] == "2"
            assert int(facts["CapBnd"], 16) == expected


def check_drain(vm: Vm, job: str, reason: str) -> None:
    """A capture runs while a job drains."""
    file = vm.directory / f"data/{job}.pcapng"
    client = subprocess.Popen(
        vm.pcapctl("--output", f"/var/vcap/data/{file.name}"), stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: file.exists() and file.stat().st_size > 2000, "packets come", timeout=30)
    vm.monit("unmonitor", job)
    assert vm.run(str(vm.job(job) / "bin/drain"), "job_shutdown", "hash_unchanged").stdout == "0\n"
    _, said = client.communicate(timeout=30)
    # Nothing was lost, but it ended before its user wanted.
    assert client.returncode == 3, said
    assert reason in said
    assert "nothing was lost" in said
    assert _packets(file) > 0
    assert "drained" in (vm.directory / "sys/log" / job / "drain.log").read_text()


def test_bpm_denies(vm: Vm) -> None:
    """A process in the agent's container cannot do what bpm denies to the jobs."""
    if not vm.bpm:
        pytest.skip("control scripts have no container")
    vm.monit("start", "pcap-agent")
    started(vm, "pcap-agent")
    tried = """
import ctypes, errno, os, pathlib
libc = ctypes.CDLL(None, use_errno=True)
for call in (lambda: libc.setns(os.open("/proc/self/ns/net", 0), 0), lambda: libc.unshare(0x40000000)):
    assert call() == -1 and ctypes.get_errno() == errno.EPERM
for path in ("/var/vcap/packages/pcapd/x", "/var/vcap/jobs/pcap-agent/x", "/etc/x", "/var/vcap/x"):
    try:
        pathlib.Path(path).touch()
    except OSError as error:
        assert error.errno in (errno.EROFS, errno.EACCES), path
    else:
        raise AssertionError(path)
assert not pathlib.Path("/var/vcap/jobs/pcap-api").exists()
pathlib.Path("/tmp/x").touch()
print("denied")
"""
    runc = ["runc", "--root", "/var/vcap/data/bpm/runc", "exec", "bpm-pcap-agent"]
    done = vm.run(*runc, "/var/vcap/packages/python-3.12/bin/python3", "-c", tried)
    assert done.stdout == "denied\n"


def test_a_cell_below_bpm(tmp_path_factory: pytest.TempPathFactory, packages: Path, issued: Issued) -> None:
    """With access to containers bpm starts the agent privileged; it becomes vcap with four capabilities, and captures."""
    vm = Vm(tmp_path_factory.mktemp("vcap"), bpm=True)
    root = "/var/vcap/data/garden-runc"
    store = "/var/vcap/data/container-metadata/store.json"
    properties = {
        **issued.agent_properties(),
        "containers.enabled": True,
        "containers.access": "namespace",
        "containers.store": store,
        "containers.runc": "/usr/sbin/runc",
        "containers.runc_root": root,
    }
    vm.install(packages, pcap_agent=properties)
    container = AppContainer(vm.directory, root)
    with vm:
        container.start(vm)
        started(vm, "pcap-agent")
        facts = _status(vm, vm.pid("pcap-agent"))
        assert set(facts["Uid"].split()) == {vm.run("id", "-u", "vcap").stdout.strip()}
        assert bin(int(facts["CapEff"], 16)).count("1") == 4
        assert facts["NoNewPrivs"] == "1"
        with AgentCaller(issued.api, 9494, vm.network, AGENT_NAME) as call:
            call.start(Container(container.app, 0, handle=container.handle), interfaces=("eth0",))
            call.wait(Source)
            container.ping(vm)
            call.stop()
            echoes = [
                packet[34] for packet in call.packets() if packet[12:14] == b"\x08\x00" and packet[23] == 1
            ]
            assert sorted(echoes) == [0, 0, 8, 8]  # two requests, two answers
        vm.monit("stop", "all")
        wait_until(
            lambda: not any("pcapd" in argv for argv in vm.processes().values()), "it ends", timeout=60
        )


def _status(vm: Vm, pid: int) -> dict[str, str]:
    lines = vm.run("cat", f"/proc/{pid}/status").stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _packets(path: Path) -> int:
    """As an independent reader counts them; it complains about a file that is not whole."""
    done = run(["tshark", "-r", str(path), "-T", "fields", "-e", "frame.number"])
    return len(done.stdout.split())
