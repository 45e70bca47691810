"""``pcapctl ssh`` and hosts that do not behave as tcpdump does: a program of the tests in place of ssh."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.processes import usage
from pcapd.ctl.options import CaptureOptions, CaptureTarget
from pcapd.ctl.ssh import running
from pcapd.ctl.ssh.hosts import SshOptions, openssh
from pcapd.savefile.form import Form
from tests.kit.doubles import far_side
from tests.kit.hosts.chain import SaveFile, read_pcapng

PCAPCTL = (sys.executable, "-m", "pcapd.ctl", "ssh", "--ssh", f"{sys.executable} {far_side.__file__}")
#: Bytes that a pcapctl may have at most, whatever the hosts send.
MEMORY_MAX = 200 * 1024 * 1024


@dataclass
class Ended:
    """A pcapctl that has ended."""

    status: int
    report: dict[str, Any]
    stderr: str
    file: SaveFile
    memory: int

    def source(self, name: str) -> dict[str, Any]:
        """A source of the report."""
        (found,) = (one for one in self.report["sources"] if one["name"] == name)
        assert isinstance(found, dict)
        return found

    def said(self, host: str) -> list[str]:
        """Lines about a host."""
        return [line for line in self.stderr.splitlines() if line.startswith(f"{host}: ")]


def capture(directory: Path, *arguments: str) -> Ended:
    """Capture these hosts with the program in place of ssh."""
    path, report, stderr = (directory / name for name in ("a.pcapng", "a.json", "stderr"))
    argv = [*PCAPCTL, *arguments, "--duration", "3", "--output", str(path), "--report", str(report)]
    with stderr.open("wb") as err:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        memory = 0
        while process.poll() is None:
            # Not ru_maxrss, which begins with the size of this process.
            with contextlib.suppress(OSError, KeyError):
                memory = max(memory, usage(process.pid).peak_rss)
            time.sleep(0.05)
    text = stderr.read_text()
    assert "Traceback" not in text, text
    assert "\x1b" not in text and "\x00" not in text
    return Ended(process.returncode, json.loads(report.read_text()), text, read_pcapng(path), memory)


#: What is said about hosts that are given up.
GIVEN_UP = {
    "garbage": "what arrived is not a capture: ",
    "pcapng": "what arrived is not a capture: ",
    "above-the-header": "what arrived is not a capture: packet 1",
    "above-all": "what arrived is not a capture: packet 1",
    "longer-than-its-packet": "what arrived is not a capture: packet 1",
    "long-name": "the host says that the interface is ",
    "odd-name": "the host says that the interface is ",
    "early": "the host sent packets before the capture began",
    "greeting": "1048576 bytes and more came before the capture",
    "greeting-late": "what arrived is not a capture: ",
}


def test_one_host_is_given_up_the_others_are_not(tmp_path: Path) -> None:
    """Whatever a host sends in place of a capture ends only this host, and is explained in a line."""
    ended = capture(tmp_path, "honest", *GIVEN_UP)
    assert ended.status == 3, ended.stderr
    honest = ended.source("honest:eth0")
    assert honest["exact"] and honest["written"] == far_side.PACKETS == honest["received"]
    for host, words in GIVEN_UP.items():
        assert any(words in line for line in ended.said(host)), (host, ended.stderr)
        assert len(ended.said(host)) <= 2 and max(map(len, ended.said(host))) < 500
    assert ended.memory < MEMORY_MAX


def test_words_that_mean_nothing(tmp_path: Path) -> None:
    """Endless or forged words on stderr, and times and counters that cannot be, change no packet."""
    hosts = ["forged", "chatter", "one-line", "fewer", "many", "too-many", "future"]
    ended = capture(tmp_path, "honest", *hosts, "--align")
    assert ended.status == 3, ended.stderr
    for host in ("honest", *hosts):
        assert ended.source(f"{host}:eth0")["written"] == far_side.PACKETS, host
    assert ended.source("honest:eth0")["exact"]
    assert ended.source("many:eth0")["dropped_kernel"] == 10**18 - 1
    assert ended.source("fewer:eth0")["received"] == far_side.PACKETS
    assert not ended.source("too-many:eth0")["exact"]
    assert ended.memory < MEMORY_MAX


def test_an_endless_list_of_interfaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that does not stop to list its interfaces is given up in time, and little of it is kept."""
    monkeypatch.setattr(running, "_LIST_TIMEOUT", 1.0)
    # yes(1) prints its arguments without end.
    hosts = [openssh("web-0", SshOptions(("yes", "--")))]
    options = CaptureOptions("-", Form.PCAPNG, list_interfaces=True)
    assert running.capture(hosts, options, CaptureTarget(("web-0",))) == 1
    assert capsys.readouterr() == ("", "web-0: no answer within 1 s\n")
