"""The list of dependencies is whole, its licences are known, and releases pin bytes and not names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.licences import BUILD, LOCKS, ROOT, dependencies, locked

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

#: What pcapd may depend on without anybody having to think about it.
PERMISSIVE = re.compile(
    r"((MIT|MIT-0|MIT License|BSD-[23]-Clause|Apache-2\.0|Apache Software License|PSF-2\.0|ZPL-2\.1)"
    r"( (OR|AND) )?)+"
)


def test_every_licence_is_known() -> None:
    """All licences are permissive except python-prctl's, which docs/security.rst names."""
    odd = {one.name: one for one in dependencies() if not PERMISSIVE.fullmatch(one.licence)}
    assert set(odd) == {"python-prctl"}
    assert odd["python-prctl"].users == "agent"
    assert "python-prctl" in (ROOT / "docs" / "security.rst").read_text()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources are not a git repository")
def test_every_file_has_a_licence() -> None:
    """``reuse lint`` finds the licence and the copyright of every file, and the text of every licence."""
    done = subprocess.run(
        [sys.executable, "-m", "reuse", "lint", "--lines"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_release_holds_exactly_these() -> None:
    """The BOSH release packs exactly the requirements of setup.py and their dependencies."""
    assert set(locked(LOCKS[0])) - BUILD == {one.name for one in dependencies()}


@pytest.mark.parametrize("path", LOCKS, ids=str)
def test_versions_are_pinned_with_hashes(path: Path) -> None:
    """Each wheel of the lock has one version and one hash."""
    for name, pin in locked(path).items():
        assert re.fullmatch(r"[\w.]+ --hash=sha256:[0-9a-f]{64}", pin), name


def test_the_command_prints_the_list() -> None:
    """``python -m tests.licences`` prints the list."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.licences"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if re.fullmatch(r"python-prctl +\S+ +agent +GPL-3.0", line)]
    assert [line for line in lines if line.startswith("libpcap")]
