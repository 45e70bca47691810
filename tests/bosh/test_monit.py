"""The jobs on a VM: packaged by their scripts, run by real monit, drained by their drain scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Iterator

import pytest

from tests.bosh.release import JOBS, RELEASE, Issued, nested, render
from tests.bosh.vm import Machine, compile_pcapd
from tests.lab.processes import end, run, wait_until

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
    """The VM with both jobs, under monit."""

    def job(self, name: str) -> Path:
        return Path("/var/vcap/jobs") / name

    def monit(self, *arguments: str) -> None:
        self.run("monit", "-c", "/var/vcap/monit/monitrc", *arguments)

    def pid(self, job: str) -> int:
        """From the pid file that monit looks at; 0 without one."""
        path = self.directory / "sys/run" / job / f"{job}.pid"
        return int(path.read_text()) if path.exists() else 0

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
def vm(tmp_path_factory: pytest.TempPathFactory, wheels: Path, issued: Issued) -> Iterator[Vm]:
    directory = tmp_path_factory.mktemp("vcap")
    hashed = sha256(TOKEN.encode()).hexdigest()
    extra: dict[str, dict[str, Any]] = {
        "pcap-api": {
            **issued.api_properties(),
            "static.users": {"alice": {"token_sha256": hashed, "targets": ["*"]}},
            "static.targets": {"vm": {"host": "127.0.0.1"}},
        },
        "pcap-agent": issued.agent_properties(),
    }
    for job in JOBS:
        render(job, nested({**extra[job], "bpm.enabled": False, "open_files": 1024})).write(
            directory / "jobs" / job
        )
    (directory / "monit").mkdir()
    (directory / "monit/monitrc").write_text(MONITRC)
    (directory / "monit/monitrc").chmod(0o600)
    with Vm(directory) as machine:
        compile_pcapd(machine, wheels)
        monit = subprocess.Popen(machine.command("monit", "-I", "-c", "/var/vcap/monit/monitrc"))
        traffic = subprocess.Popen(machine.command("/usr/bin/env", "python3", "-c", TRAFFIC))
        try:
            yield machine
        finally:
            end(traffic)
            end(monit)


def test_the_package_is_complete(vm: Vm) -> None:
    """Nothing has to be written at run time, and pip is gone."""
    package = vm.directory / "packages/pcapd"
    assert list(package.glob("lib/python*/site-packages/twisted/plugins/dropin.cache"))
    assert not list(package.glob("lib/python*/site-packages/pip"))
    assert "pcapd" in vm.run("/var/vcap/packages/pcapd/bin/pcapd", "--version").stdout
    assert (package / "cli/pcapctl").stat().st_mode & 0o777 == 0o755


def test_start_health_restart_capture_drain_stop(vm: Vm) -> None:
    """What happens to the jobs in their life on a VM, in its order."""
    for job in JOBS:
        wait_until(lambda job=job: vm.pid(job) != 0, f"monit starts {job}", timeout=60)  # type: ignore[misc]
        vm.run(str(vm.job(job) / "bin/post-start"), timeout=90)
    vm.run(str(vm.job("pcap-api") / "bin/route-health"))

    # Both are vcap by now, the api without any capability, the agent with CAP_NET_RAW (bit 13) alone.
    for job, expected in (("pcap-api", 0), ("pcap-agent", 1 << 13)):
        status = vm.run("cat", f"/proc/{vm.pid(job)}/status").stdout
        facts = dict(line.split(":", 1) for line in status.splitlines())
        assert set(facts["Uid"].split()) == {vm.run("id", "-u", "vcap").stdout.strip()}
        assert [int(facts[name], 16) for name in ("CapPrm", "CapEff")] == [expected] * 2, job
        assert facts["NoNewPrivs"].strip() == "1"

    # monit starts again what was killed.
    for job in JOBS:
        before = vm.pid(job)
        vm.run("kill", "-KILL", str(before))
        wait_until(lambda job=job, before=before: vm.pid(job) != before, f"monit restarts {job}", timeout=60)  # type: ignore[misc]
        vm.run(str(vm.job(job) / "bin/post-start"), timeout=90)

    done = run(vm.pcapctl("--count", "20", "--output", "/var/vcap/data/first.pcapng"))
    assert "20 packets" in done.stderr, done.stderr
    assert _packets(vm.directory / "data/first.pcapng") == 20

    # A capture that runs while the api drains has its end and a complete file.
    client = subprocess.Popen(
        vm.pcapctl("--output", "/var/vcap/data/second.pcapng"), stderr=subprocess.PIPE, text=True
    )
    second = vm.directory / "data/second.pcapng"
    wait_until(lambda: second.exists() and second.stat().st_size > 2000, "packets come", timeout=30)
    vm.monit("unmonitor", "pcap-api")
    assert vm.run(str(vm.job("pcap-api") / "bin/drain"), "job_shutdown", "hash_unchanged").stdout == "0\n"
    _, said = client.communicate(timeout=30)
    # Nothing was lost, but it ended before its user wanted.
    assert client.returncode == 3, said
    assert "stopped: the api is shutting down" in said
    assert "0 dropped by the kernel, 0 by the interface, 0 lost on the way" in said
    assert _packets(second) > 0
    assert "drained" in (vm.directory / "sys/log/pcap-api/drain.log").read_text()

    records = [
        json.loads(line) for line in (vm.directory / "sys/log/pcap-api/audit.log").read_text().splitlines()
    ]
    kinds = [record["audit"] for record in records]
    assert kinds == ["capture_started", "capture_ended", "capture_started", "capture_ended"]
    assert [record["reason"] for record in records if "reason" in record] == ["stopped", "draining"]
    assert TOKEN not in vm.log()

    vm.monit("stop", "all")
    wait_until(lambda: not any("pcapd" in argv for argv in vm.processes().values()), "all end", timeout=60)


def _packets(path: Path) -> int:
    """As an independent reader counts them; it complains about a file that is not whole."""
    done = run(["tshark", "-r", str(path), "-T", "fields", "-e", "frame.number"])
    return len(done.stdout.split())
