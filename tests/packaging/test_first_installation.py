"""The wheel alone has what docs/install.rst uses: certificates, example configurations, and both are good."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from demo.processes import CommandFailed
from pcapd.starter import run
from tests.packaging.installed import Installed

pytestmark = pytest.mark.long


def check(wheel: Installed, directory: Path, role: str) -> str:
    """Write the example of a role and let it be checked; python-prctl is not installed here."""
    path = directory / f"pcapd-{role}.yml"
    example = wheel.run("pcapd", "example-config", role)
    path.write_text(example.replace("#privileges: prctl", "privileges: none"))
    return wheel.run("pcapd", "--role", role, "--config", str(path), "--check-config")


def test_from_nothing(installed: Installed, tmp_path: Path) -> None:
    """The first installation needs no checkout, and only the owner can read the keys."""
    tls = tmp_path / "tls"
    said = installed.run("pcapd", "certificates", str(tls), "--api", "pcap.example.com", "--api", "192.0.2.1")
    files = ["agent.crt", "agent.key", "api.crt", "api.key", "ca.crt", "ca.key"]
    assert sorted(os.listdir(tls)) == files and "ca.key" in said
    assert {stat.S_IMODE((tls / name).stat().st_mode) for name in files if name.endswith(".key")} == {0o600}
    for role in ("api", "agent"):
        assert f"good configuration of an {role}" in check(installed, tmp_path, role)


def test_what_is_there_stays(installed: Installed, tmp_path: Path) -> None:
    """A certificate that was removed is made anew, by the same authority; nothing is overwritten."""
    installed.run("pcapd", "certificates", str(tmp_path / "tls"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    with pytest.raises(CommandFailed, match="already has all files"):
        installed.run("pcapd", "certificates", str(tmp_path / "tls"))
    (tmp_path / "tls" / "agent.crt").unlink()
    installed.run("pcapd", "certificates", str(tmp_path / "tls"), "--agent", "agents.example.com")
    after = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"agent.crt", "agent.key"}
    assert "good configuration" in check(installed, tmp_path, "agent")


@pytest.mark.parametrize("name", ["a b", "", "häuser.example", "a..b", "-x.example"])
def test_what_is_not_a_name(tmp_path: Path, name: str) -> None:
    """A name that cannot be used is reported before any file is made."""
    with pytest.raises(SystemExit, match="neither a host name nor an IP address"):
        run(["certificates", str(tmp_path / "tls"), f"--api={name}"])
    assert not (tmp_path / "tls").exists()
