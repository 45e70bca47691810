"""The release before this one, beside this one: in each pair, one side is old, and captures have every packet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.configurations import merged
from demo.daemons import Daemon, Lab
from demo.processes import run
from pcapd import COMPATIBILITY_LEVEL
from tests.kit.hosts.chain import Client, Result
from tests.kit.lab.generator import FILTER, Generator
from tests.packaging.installed import PATIENCE, ROOT, clean_environment

#: The release before this one: a version, whose tag is ``v`` and the version, or, before the first
#: release, a commit.  ``bin/release`` writes the version that it releases here, so that the tests
#: after a release use that one.
BEFORE = "206a100"
#: Keys of the lab's configurations that are newer, which an old daemon would refuse; without them, it
#: has the same behaviour.
NEWER = ("probe",)

HOSTS = ("web-0", "web-1")
PACKETS = 3_000
#: Packets per second.
RATE = 3_000

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="captures and namespaces need root"),
]


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in the checkout."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the release before, and install it into a directory of its own.

    Its dependencies are those of this environment.
    """
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    pytest.importorskip("prctl", reason="python-prctl is not installed")
    revision = f"v{BEFORE}" if "." in BEFORE else BEFORE
    if not (ROOT / ".git").exists():
        pytest.skip("the sources are not a git repository")
    if git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").returncode != 0:
        pytest.skip(f"the history of this clone does not contain {revision}: git fetch --unshallow --tags")
    directory = tmp_path_factory.mktemp("before")
    sources, installed = directory / "sources", directory / "installed"
    sources.mkdir()
    archive = git("archive", "--format=tar", revision)
    assert archive.returncode == 0, archive.stderr
    subprocess.run(["tar", "--extract", "--directory", sources], input=archive.stdout, check=True)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    options = {"cwd": directory, "env": clean_environment(), "timeout": PATIENCE}
    run([*pip, "wheel", "--no-deps", "--wheel-dir", str(directory), str(sources)], **options)
    (wheel,) = directory.glob("*.whl")
    run([*pip, "install", "--no-deps", "--target", str(installed), str(wheel)], **options)
    return installed


@pytest.fixture(params=["agent", "api", "pcapctl"])
def old(request: pytest.FixtureRequest) -> Iterator[str]:
    """The program that is of the release before; the two others are of this one."""
    yield request.param


def level_of(installed: Path) -> int:
    """The compatibility level of an installed release."""
    found = re.search(
        r"^COMPATIBILITY_LEVEL\b.*= (\d+)$", (installed / "pcapd" / "__init__.py").read_text(), re.M
    )
    assert found is not None
    return int(found[1])


def later_level(directory: Path) -> dict[str, str]:
    """The environment of a program of this version that has the next compatibility level."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text("import pcapd\npcapd.COMPATIBILITY_LEVEL += 1\n")
    return {"PYTHONPATH": f"{directory}:{ROOT}"}


def age(daemon: Daemon, before: Path) -> None:
    """Let a daemon run from the release before, with a configuration that it knows."""
    daemon.variables = {"PYTHONPATH": str(before)}
    daemon.config = merged(daemon.config, dict.fromkeys(NEWER))


def begin(lab: Lab, name: str, environment: dict[str, str]) -> Client:
    """Start pcapctl for both hosts."""
    path = lab.directory / f"{name}.pcapng"
    output, stderr = path.with_suffix(".events"), path.with_suffix(".stderr")
    arguments = ("hosts", *HOSTS, "--filter", FILTER, "--json", "--output", str(path))
    with output.open("wb") as out, stderr.open("wb") as err:
        process = lab.start_pcapctl(*arguments, stdout=out, stderr=err, env=environment)
    return Client(process, path, output, stderr)


def assert_runs_from(pid: int, directory: Path, *, is_old: bool) -> None:
    """A process has loaded the compiled modules of the release before, or has not."""
    loaded = set(re.findall(r"\S+/pcapd/\S+_native\S*\.so", Path(f"/proc/{pid}/maps").read_text()))
    assert loaded, "no compiled module shows which version runs"
    assert {path.startswith(f"{directory}/") for path in loaded} == {is_old}, loaded


def test_every_packet(before: Path, old: str, tmp_path: Path) -> None:
    """With an agent, an api or a pcapctl of the release before, a capture of two hosts has every packet."""
    if old != "pcapctl" and level_of(before) < COMPATIBILITY_LEVEL:
        pytest.skip("this release has a higher compatibility level: the next test reads the refusal")
    lab = Lab(tmp_path / "lab")
    for daemon in (lab.agent, lab.api):
        if daemon.role == old:
            age(daemon, before)
    with lab:
        client = begin(lab, "capture", {"PYTHONPATH": str(before)} if old == "pcapctl" else {})
        client.wait_for(*(f"{host}:eth0" for host in HOSTS))
        pids = {"agent": lab.agent.pid, "api": lab.api.pid, "pcapctl": client.process.pid}
        for program, pid in pids.items():
            assert_runs_from(pid, before, is_old=program == old)
        with Generator(lab.link, size=200, rate=RATE, count=PACKETS) as generator:
            assert generator.wait().sent == PACKETS
        time.sleep(0.5)  # the counters come ten times a second
        result = client.stop()
    assert result.status == 0, result.stderr
    for host in HOSTS:
        assert result.file.numbers(f"{host}:eth0") == list(range(PACKETS))


def test_a_level_that_is_too_old(before: Path, tmp_path: Path) -> None:
    """An api or a pcapctl of the next compatibility level refuses the release before in one sentence."""
    lab = Lab(tmp_path / "lab")
    later = later_level(tmp_path / "later")
    age(lab.agent, before)
    lab.api.variables = later
    with lab:
        refused = begin(lab, "old-agent", {}).wait()
        sentences = {notice["message"] for notice in refused.notices}
    assert refused.status == 1
    (sentence,) = sentences
    assert is_clear(sentence, "agent"), sentence

    lab = Lab(tmp_path / "other")
    age(lab.api, before)
    with lab:
        refused = begin(lab, "old-api", later).wait()
    assert refused.status == 1
    assert is_clear(error_of(refused), "api"), refused.stderr


def error_of(result: Result) -> str:
    """The error in the report, or without one on stderr."""
    report: dict[str, Any] = result.events[-1] if result.events else {}
    return str(report.get("error") or result.stderr)


def is_clear(sentence: str, role: str) -> bool:
    """Whether a sentence names the old program, both levels, and what to do."""
    return bool(re.search(rf"\b{role} \S+ speaks level \d+ of the protocol, but \d+ is needed", sentence))
