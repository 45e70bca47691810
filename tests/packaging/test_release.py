"""``bin/release`` in a clone of its own."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources are not a git repository"),
]


def test_a_release(tmp_path: Path) -> None:
    """A release refuses a changed tree; then version, changelog, tag and files agree, and the client runs."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    for name, value in (("user.name", "Test"), ("user.email", "test@example.test")):
        subprocess.run(["git", "config", name, value], cwd=clone, check=True)

    (clone / "stray").touch()
    refused = release(clone, "0.2.0")
    assert (refused.returncode, refused.stderr) == (
        1,
        "bin/release: the tree has changes: commit them first\n",
    )
    (clone / "stray").unlink()

    assert release(clone, "--dry-run", "0.2.0").returncode == 0
    assert git(clone, "status", "--porcelain") == git(clone, "tag", "--list", "v0.2.0") == ""

    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    done = release(clone, "--sign", str(key), "0.2.0")
    assert done.returncode == 0, done.stderr
    assert git(clone, "describe") == "v0.2.0\n"
    changelog = (clone / "CHANGELOG.rst").read_text()
    assert re.search(
        r"^Unreleased\n-+\n\nNothing yet\.\n\n0\.2\.0 \(\d{4}-\d\d-\d\d\)\n-+\n", changelog, re.M
    )
    (wheel,) = (clone / "dist").glob("pcapd-0.2.0-*.whl")
    assert "-manylinux" in wheel.name
    names = {wheel.name, "pcapd-0.2.0.tar.gz", "pcapctl", "pcapctl.sha256", "pcapctl.sig"}
    names |= {f"{name}.cdx.json" for name in (wheel.name, "pcapctl", "pcapd-boshrelease")}
    sums = dict(line.split()[::-1] for line in (clone / "dist" / "SHA256SUMS").read_text().splitlines())
    assert sums == {n: hashlib.sha256((clone / "dist" / n).read_bytes()).hexdigest() for n in names}
    (signers := tmp_path / "signers").write_text(f"pcapd {key.with_suffix('.pub').read_text()}")
    signature = clone / "dist" / "SHA256SUMS.sig"
    subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "pcapd", "-n", "pcapd", "-s", signature],
        input=(clone / "dist" / "SHA256SUMS").read_bytes(),
        check=True,
    )
    client = [sys.executable, clone / "dist" / "pcapctl", "--version"]
    assert "0.2.0" in subprocess.run(client, check=True, capture_output=True, text=True).stdout

    assert "has no entries under Unreleased" in release(clone, "0.3.0").stderr


def release(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with our Python, which has `build`."""
    return subprocess.run(
        [sys.executable, clone / "bin" / "release", *arguments], check=False, capture_output=True, text=True
    )


def git(clone: Path, *arguments: str) -> str:
    """Run git in the clone; return what it prints."""
    return subprocess.run(["git", *arguments], cwd=clone, check=True, capture_output=True, text=True).stdout
