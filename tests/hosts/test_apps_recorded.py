"""``pcapctl record cf``: from a cf login to the fetched file, with real containers, agents and packets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")
pytest.importorskip("obstore", reason="obstore is not installed")

from demo.certificates import Authority
from demo.daemons import environment
from demo.processes import wait_until
from tests.kit.hosts.apps import PATIENCE, Apps, apps_in, wire
from tests.kit.hosts.chain import SaveFile, ordered, read_pcapng
from tests.kit.hosts.containers import needs

if needs():
    pytest.skip(str(needs()), allow_module_level=True)


def said(apps: Apps, home: Path, *words: str) -> str:
    """What a pcapctl that succeeds prints."""
    argv = [sys.executable, "-m", "pcapd.ctl", *words, "--ca", str(apps.authority.certificate_path)]
    variables = environment(CF_HOME=str(home), HOME="/nonexistent")
    done = subprocess.run(
        argv, cwd=apps.directory, env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.long
def test_an_app_that_moves_is_recorded(tmp_path: Path, authority: Authority) -> None:
    """The file holds the packets of both containers of an instance that moved, and what was missed between them."""
    with apps_in(tmp_path, authority, recorded=True) as apps:
        home = apps.log_in()
        id = said(apps, home, "record", "cf", "myapp", "--instance", "0", "--follow", "--quiet").strip()

        def shown() -> Any:
            return json.loads(said(apps, home, "recording", "show", id, "--json"))

        def fetched(number: int) -> SaveFile:
            path = tmp_path / f"fetched-{number}.pcapng"
            said(apps, home, "recording", "fetch", id, "--output", str(path))
            return read_pcapng(path)

        wait_until(lambda: shown()["packets"] > 10, "the first container is recorded", timeout=30)
        apps.remove(apps.real[0], apps.cells[0])
        moved = apps.place(apps.app, 0, apps.cells[1])
        before = shown()["packets"]
        wait_until(lambda: shown()["packets"] > before + 10, "the second one is recorded", timeout=30)
        said(apps, home, "recording", "stop", id)
        wait_until(lambda: shown()["state"] == "stopped", "it has ended")
        file = fetched(1)
        assert [one.name for one in file.interfaces] == ["myapp/0:eth0"] * 2
        for number, container in enumerate((apps.real[0], moved)):
            own = [packet.data for packet in file.packets if packet.interface == number]
            assert len(own) > 4 and all(wire(container) in data for data in own)
        assert "it was not captured from" in file.interfaces[1].remarks
        assert ordered(file.times)
