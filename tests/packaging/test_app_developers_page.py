"""docs/for-app-developers.rst: every command of it is run, every filter compiled, every message found."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from demo.certificates import Authority
from demo.processes import ROOT
from tests.kit.hosts.cf import Foundation
from tests.kit.lab.readers import require
from tests.packaging.client_file import PATIENCE

PAGE = (ROOT / "docs" / "for-app-developers.rst").read_text()
#: In the page any port is free; here it may not be.
FREE = (":57012", ":0")


def commands() -> list[str]:
    """The lines of the page that call pcapctl, without their comments."""
    lines = re.findall(r"^    (pcapctl .*)$", PAGE, re.M)
    return [re.sub(r" +#.*", "", line) for line in lines]


def rows(title: str) -> list[list[str]]:
    """The cells of the table whose first column has this title."""
    head = re.search(rf"^(=[= ]+)\n{title} .*\n=[= ]+\n((?:[^=].*\n)+)=[= ]+$", PAGE, re.M)
    assert head is not None, title
    starts = [match.start() for match in re.finditer("=+", head[1])]
    return [
        [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None])]
        for line in head[2].splitlines()
    ]


class User:
    """Somebody who is logged in, with pcapctl in PATH, and tshark for Wireshark."""

    def __init__(self, foundation: Foundation, client_file: Path, directory: Path) -> None:
        self._directory = directory
        tools = directory / "tools"
        tools.mkdir()
        (tools / "pcapctl").symlink_to(client_file)
        wireshark = tools / "wireshark"
        wireshark.write_text('#!/bin/sh\n[ "$*" = "-k -i -" ] && exec tshark -r -\n')
        wireshark.chmod(0o755)
        self.environ = {
            "PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(directory / "home"),
            "CF_HOME": str(directory / "home"),
            "PYTHONPATH": str(directory / "site"),
            "SSL_CERT_FILE": str(foundation.ca),
            "LANG": "C.UTF-8",
        }

    def run(self, command: str, number: int) -> subprocess.CompletedProcess[str]:
        """Run a command in a directory of this number."""
        work = self._directory / f"work-{number}"
        work.mkdir(exist_ok=True)
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command.replace(*FREE)],
            env=self.environ,
            cwd=work,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture
def foundation(tmp_path: Path, authority: Authority) -> Iterator[Foundation]:
    """Return a foundation with an app myapp."""
    with Foundation(tmp_path, authority) as foundation:
        yield foundation


@pytest.mark.long
def test_every_command(foundation: Foundation, client_file: Path, tmp_path: Path) -> None:
    """Every command of the page succeeds as printed, and the capturing ones request a capture of the app."""
    require("tshark")
    user = User(foundation, client_file, tmp_path)
    captured = number = 0
    for command in commands():
        if command.startswith(("pcapctl record ", "pcapctl recording")):
            continue  # this foundation's api has no recordings: see tests/hosts/test_recordings.py
        # Flows are of the file that was captured before.
        number += not command.startswith("pcapctl flows")
        done = user.run(command, number)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        captured += command.startswith("pcapctl cf myapp")
        assert len(foundation.state.captures) == captured, command
    assert captured >= 15
    asked = foundation.state.captures
    assert {request.app.type for request in asked if request.app} == {"web", "worker"}
    assert any(request.follow for request in asked)
    assert any(request.interfaces == ("eth0", "lo") for request in asked)
    parts = sorted(path.name for path in tmp_path.glob("work-*/web_*"))
    assert parts == ["web_myapp_0.pcapng", "web_myapp_1.pcapng"]
    assert len(list(tmp_path.glob("work-*/report.json"))) == 1


@pytest.mark.long
def test_what_the_text_says_of_files(foundation: Foundation, client_file: Path, tmp_path: Path) -> None:
    """The name without --output, no file with --serve and --print alone, and none is overwritten."""
    user = User(foundation, client_file, tmp_path)
    user.run("pcapctl cf myapp", 1)
    (name,) = os.listdir(tmp_path / "work-1")
    assert re.fullmatch(r"myapp-\d{8}T\d{6}Z\.pcapng", name)
    assert (tmp_path / "work-1" / name).stat().st_mode & 0o777 == 0o600
    again = user.run(f"pcapctl cf myapp --output {name}", 1)
    assert again.returncode == 1 and f"{name} already exists" in again.stderr and "--force" in again.stderr
    for arguments in ("--print", "--serve 127.0.0.1:0"):
        assert user.run(f"pcapctl cf myapp {arguments}", 2).returncode == 0
    assert os.listdir(tmp_path / "work-2") == []


def test_every_filter() -> None:
    """libpcap takes those of the commands and of the table."""
    require("tcpdump")
    filters = re.findall(r"--filter '([^']+)'", PAGE)
    table = rows("To see")
    assert len(table) >= 7
    assert {row[1] for row in table} == {"``eth0``", "``lo``"}
    filters += [one for row in table for one in re.findall("``([^`]+)``", row[2])]
    assert len(filters) > len(table)
    for one in filters:
        done = subprocess.run(
            ["tcpdump", "-d", "-y", "EN10MB", one], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (one, done.stderr)


def said() -> set[str]:
    """What the sources can say, with {} for what they find out."""
    texts = set()
    for path in (ROOT / "pcapd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
                texts.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return texts


def test_every_message() -> None:
    """The table of what may go wrong has the words of the sources, in their order."""
    texts = said()
    table = rows("Message")
    assert len(table) >= 15
    for message in (message for row in table for message in row[0].split("; ")):
        # The states are Cloud Controller's.
        words = re.sub(r"\b(CRASHED|DOWN|STARTING)\b", "{}", message)
        pattern = ".*".join(map(re.escape, words.split(" … ")))
        assert any(re.search(pattern, text) for text in texts), message


def test_the_statuses_are_those_of_help() -> None:
    """The page lists the same exit statuses as the help and the man page."""
    page = (ROOT / "docs" / "pcapctl.1").read_text()
    table = rows("Exit status")
    assert [row[0] for row in table] == ["0", "1", "2", "3"]
    for status, words in table:
        assert f"\\fB{status}\\fR\n{words}\n" in page


def test_references() -> None:
    """Files that the page points to are beside it."""
    found = re.findall(r"<([^<>`]+)>`_", PAGE)
    assert "pcapctl.1" in found and all((ROOT / "docs" / name).exists() for name in found)
