"""``pcapctl record cf`` with real containers: an instance that crashes or disappears makes a clip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")
pytest.importorskip("obstore", reason="obstore is not installed")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

from demo.certificates import Authority
from demo.daemons import environment
from demo.processes import wait_until
from tests.kit.doubles.cloud_controller import CfApp, Process
from tests.kit.hosts.apps import PATIENCE, Apps, apps_in, wire
from tests.kit.hosts.chain import read_pcapng
from tests.kit.hosts.containers import needs
from tests.kit.lab.containers import Instance

pytestmark = pytest.mark.long
if needs():
    pytest.skip(str(needs()), allow_module_level=True)


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Apps]:
    """Cells, and an api that records."""
    directory = tmp_path_factory.mktemp("record-cf")
    changes = {
        "state": f"sqlite:///{directory}/state.db",
        "recordings": {"store": f"file://{directory}/store", "reserve": "1MB"},
    }
    with apps_in(directory, authority, **changes) as apps:
        yield apps


def said(apps: Apps, home: Path, *words: str) -> str:
    """What a pcapctl that succeeds prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pcapd.ctl", *words, "--ca", str(apps.authority.certificate_path)],
        cwd=apps.directory,
        env=environment(CF_HOME=str(home), HOME="/nonexistent"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def crash(apps: Apps, one: Instance) -> None:
    apps.cells[0].cell.kill(one)


def delete(apps: Apps, one: Instance) -> None:
    apps.remove(one, apps.cells[0])


def unmount(apps: Apps, one: Instance) -> None:
    apps.cells[0].cell.unmount(one)


@pytest.mark.parametrize(
    ("name", "happens", "reason"),
    [
        ("paul", crash, "container has ended"),
        ("george", delete, "container has ended"),
        ("stuart", unmount, "namespace is gone"),
    ],
)
def test_a_crash_makes_a_clip(
    apps: Apps, tmp_path: Path, name: str, happens: Callable[[Apps, Instance], Any], reason: str
) -> None:
    """The clip names the instance and why, and has the last packets of it and those of the others around that."""
    cell = apps.cells[0]
    app = apps.cc.add(CfApp(name, processes=[Process(instances=[])], space=apps.app.space))
    lost, other = apps.place(app, 0, cell), apps.place(app, 1, cell)
    if happens is unmount:
        cell.cell.bind_mount(lost)
    home = apps.log_in()
    words = ("record", "cf", name, "--keep", "1m", "--clip-on", "crash", "--before", "20s", "--after", "2s")
    id = said(apps, home, *words, "--quiet").strip()

    def shown() -> dict[str, Any]:
        return dict(json.loads(said(apps, home, "recording", "show", id, "--json")))

    def clips(state: str) -> bool:
        return any(clip["state"] == state for clip in shown()["clips"])

    wait_until(lambda: shown()["packets"] > 40, "packets are stored", timeout=30)
    assert shown()["clips"] == []
    happens(apps, lost)
    wait_until(lambda: clips("done"), "the clip is made", timeout=30)
    (clip,) = shown()["clips"]
    assert clip["reason"].startswith(f"{name}/0") and reason in clip["reason"], clip
    path = tmp_path / "clip.pcapng"
    said(apps, home, "recording", "fetch", id, "--clip", "1", "--output", str(path))
    file = read_pcapng(path)
    assert {interface.name for interface in file.interfaces} == {f"{name}/0:eth0", f"{name}/1:eth0"}
    last = [packet for packet in file.packets if wire(lost) in packet.data]
    after = [packet for packet in file.packets if wire(other) in packet.data]
    assert len(last) > 4 and len(after) > len(last)
    said(apps, home, "recording", "delete", id)
    for one in (lost, other):
        if not (happens is delete and one is lost):
            apps.remove(one, cell)
