"""What the release is made of is pinned twice, for pip and for BOSH, and both say the same."""

from __future__ import annotations

import hashlib
import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from demo.daemons import ROOT
from tests.bosh.release import RELEASE

BLOBS = ROOT / "bin" / "bosh-blobs"


def test_the_lock_and_the_index_agree() -> None:
    """Every wheel that pip may take is a blob of the release, and the other way round."""
    lock = (RELEASE / "config/wheels.lock").read_text()
    index = yaml.safe_load((RELEASE / "config/blobs.yml").read_text())
    locked = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})$", lock, re.MULTILINE))
    wheels = {facts["sha"] for name, facts in index.items() if name.startswith("pcapd-wheels/")}
    assert locked and locked == wheels


def test_an_index_of_whole_entries() -> None:
    """BOSH checks size and hash of each blob."""
    for name, facts in yaml.safe_load((RELEASE / "config/blobs.yml").read_text()).items():
        assert set(facts) == {"size", "sha"}, name
        assert facts["size"] > 0


@pytest.mark.long
def test_the_package_index_has_them(tmp_path: Path) -> None:
    """Every wheel and source archive of the lock is still there, with the hash that BOSH will check."""
    program = runpy.run_path(str(BLOBS))
    program["collect_wheels"].__globals__.update(WHEELS=tmp_path / "wheels")
    try:
        program["collect_wheels"]()
    except program["Failed"]:
        index = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(tmp_path), "click"],
            capture_output=True,
            check=False,
        )
        if index.returncode:
            pytest.skip("no package index can be reached")
        raise
    index = yaml.safe_load((RELEASE / "config/blobs.yml").read_text())
    wheels = {
        name.partition("/")[2]: facts for name, facts in index.items() if name.startswith("pcapd-wheels/")
    }
    found = {path.name: path.read_bytes() for path in (tmp_path / "wheels").iterdir()}
    assert set(found) == set(wheels)
    for name, content in found.items():
        assert len(content) == wheels[name]["size"]
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == wheels[name]["sha"]


def test_a_release_without_python_prctl(tmp_path: Path) -> None:
    """python-prctl can be left out of the lock and the index, which still agree, and nothing else changes."""
    program = runpy.run_path(str(BLOBS))
    places = {}
    for name in ("LOCK", "INDEX"):
        places[name] = tmp_path / name
        places[name].write_bytes(program[name].read_bytes())
    program["leave_out"].__globals__.update(places)
    program["leave_out"]("python-prctl")
    for name, path in places.items():
        before, after = program[name].read_text().splitlines(), path.read_text().splitlines()
        gone = [line for line in before if line not in after]
        assert gone and len(after) == len(before) - len(gone)
        assert "prctl" in gone[0] and all("prctl" in line or line.startswith("  ") for line in gone)


def test_libpcap_cannot_be_fetched(tmp_path: Path) -> None:
    """A libpcap source that cannot be fetched is reported with its URL and the remedy, and no part of it stays."""
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        address = f"http://127.0.0.1:{refusing.getsockname()[1]}"
    run = f"import runpy, sys; program = runpy.run_path({str(BLOBS)!r}); main = program['main']; "
    run += f"main.__globals__.update(BLOBS=__import__('pathlib').Path({str(tmp_path)!r})); "
    run += "sys.argv = ['bosh-blobs']; main()"
    variables = {**os.environ, "https_proxy": address, "HTTPS_PROXY": address, "no_proxy": "", "NO_PROXY": ""}
    done = subprocess.run(
        [sys.executable, "-c", run], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot fetch https://www.tcpdump.org/release/libpcap-" in done.stderr
    assert "--libpcap FILE" in done.stderr and "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
