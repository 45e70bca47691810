"""The download and the four commands of README.rst, as they stand there, to a file with packets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from demo.certificates import Authority
from demo.processes import ROOT
from tests.kit.hosts.cf import GUID, SYSTEM_DOMAIN, Canned, Foundation
from tests.kit.lab.readers import capinfos, require, tcpdump_lines, tshark_fields
from tests.packaging.client_file import PATIENCE

#: In the README instead of a foundation's own.
EXAMPLE = "example.com"


def commands() -> list[str]:
    """The commands of the README's section."""
    section = re.search(
        r"^Use it with the cf CLI\n-+\n(.*?)^\w[^\n]*\n-+$", (ROOT / "README.rst").read_text(), re.M | re.S
    )
    assert section is not None, "README.rst has the section"
    block = re.search(r"::\n\n((?:    [^\n]*\n)+)", section[1])
    assert block is not None
    return [line.strip() for line in block[1].splitlines()]


class Shell:
    """A shell of a user who has a cf CLI, in an empty directory."""

    def __init__(self, cf: Path, foundation: Foundation, directory: Path) -> None:
        self._foundation = foundation
        home, login = directory / "home", directory / "login.json"
        login.write_text(json.dumps({"LoggedIn": False}))
        self._place = f"{SYSTEM_DOMAIN}:{foundation.server.server_port}"
        home.mkdir(exist_ok=True)
        (home / ".curlrc").write_text(f'resolve = "pcap.{self._place}:127.0.0.1"\n')
        self.environ = {
            "PATH": f"{cf.parent}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "CF_HOME": str(home),
            "STANDIN_LOGIN": str(login),
            "STANDIN_TOKEN": foundation.state.new_access(),
            "PYTHONPATH": str(directory / "site"),
            # The names of the foundation are not in any DNS, and its authority is not the system's.
            "STANDIN_RESOLVE": "127.0.0.1",
            "SSL_CERT_FILE": str(foundation.ca),
        }

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the README at this foundation."""
        return subprocess.run(
            ["bash", "-c", command.replace(EXAMPLE, self._place)],
            env=self.environ,
            cwd=self._foundation.work,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture
def shell(standin: Path, client_file: Path, tmp_path: Path, authority: Authority) -> Iterator[Shell]:
    """Return a shell at a foundation that offers the client for download."""
    require("tshark", "capinfos", "tcpdump")
    with Foundation(tmp_path, authority) as foundation:
        foundation.config_path.unlink()
        foundation.state.canned["/cli/pcapctl"] = Canned(200, client_file.read_bytes())
        yield Shell(standin, foundation, tmp_path)


def test_there_are_four() -> None:
    """The README section has as many commands as it promises."""
    words = [command.split()[0] for command in commands()]
    assert words == ["curl", "cf", "cf", "cf", "cf"]


def test_each_of_them(shell: Shell, tmp_path: Path) -> None:
    """The README's commands work one after the other, and all readers accept the resulting file."""
    work = tmp_path / "work"
    download, install, login, target, capture = commands()

    def succeeds(command: str) -> str:
        done = shell.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    succeeds(download)
    assert "successfully installed" in succeeds(install)
    refused = shell.run(capture)
    assert refused.returncode == 1 and "has no api" in refused.stderr, "the login is needed"
    succeeds(login)
    refused = shell.run(capture)
    assert refused.returncode == 1 and "no targeted space" in refused.stderr, "the space is needed"
    succeeds(target)
    assert "stopped: duration" in succeeds(capture)

    request = shell._foundation.state.captures[-1]
    assert request.app is not None and request.app.guid == GUID
    assert request.duration is not None and 30 <= request.duration <= 60
    name = capture.split()[-1]
    names = {row[0] for row in tshark_fields(work / name, ["frame.interface_name"])}
    assert names == {"myapp/0:eth0", "myapp/1:eth0"}
    assert capinfos(work / name)["Number of packets"] == "2"
    assert len([line for line in tcpdump_lines(work / name) if not line.startswith("\t")]) == 2
    assert sorted(os.listdir(work)) == [name, "pcapctl"]
