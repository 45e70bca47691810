"""pcapctl and the end of what it was started from: a terminal that is closed, nohup, a shell that ends."""

from __future__ import annotations

import json
import os
import select
import shlex
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from demo.daemons import environment
from demo.processes import run, wait_until
from pcapd.wire import EndReason, Stop
from tests.kit.doubles.stream_api import Client, StreamApi, record
from tests.kit.hosts.chain import read_pcapng
from tests.kit.hosts.scripted import TOKEN, ended, started
from tests.kit.lab.terminals import Terminal


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("hangup-api", dns=("localhost",), ips=(LOCAL,))


class Stage:
    """An api whose captures end when they are stopped, or when the test says so; and where captures go.

    Attributes:
        stopped: pcapctl asked it to stop.
        over: It ends the capture by itself.
    """

    def __init__(self, credentials: Credentials, directory: Path) -> None:
        self.ca = credentials.ca
        self.directory = directory
        self.path = directory / "x.pcapng"
        self.report_path = directory / "report.json"
        self.stopped = threading.Event()
        self.over = threading.Event()
        self.api = StreamApi(credentials, self._script)

    def _script(self, client: Client) -> None:
        started(client)
        while not self.over.is_set():
            if select.select([client._socket], [], [], 0.05)[0]:
                assert isinstance(next(client.heard()), Stop)
                self.stopped.set()
                client.packets(record(4) + record(5))  # drained
                ended(client, 5, EndReason.STOPPED)
                return
        ended(client, 3)

    def argv(self, *arguments: str) -> list[str]:
        """A pcapctl that captures from it."""
        argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "--api", self.api.url]
        argv += ["--ca", str(self.ca), "--output", str(self.path), "--report", str(self.report_path)]
        return [*argv, *arguments]

    @property
    def options(self) -> dict[str, Any]:
        """Of its process."""
        variables = {"PCAP_TOKEN": TOKEN, "TERM": "xterm-256color", "HISTFILE": os.devnull}
        return {"env": {**environment(), **variables}, "cwd": self.directory}

    def captures(self) -> None:
        """Wait until it does."""
        wait_until(self.path.exists, "pcapctl captures", timeout=30)

    def reported(self) -> dict[str, Any]:
        """How it went, when it is over."""
        wait_until(self.report_path.exists, "the report is written")
        report: dict[str, Any] = json.loads(self.report_path.read_text())
        assert len(read_pcapng(self.path).packets) == report["packets"]
        assert not self.api.failures, self.api.failures
        return report


@pytest.fixture
def stage(credentials: Credentials, tmp_path: Path) -> Any:
    stage = Stage(credentials, tmp_path)
    with stage.api:
        yield stage
        stage.over.set()


@pytest.mark.parametrize("arguments", [(), ("--print",), ("--json",), ("--quiet",)], ids=" ".join)
def test_a_terminal_that_is_closed(arguments: tuple[str, ...], stage: Stage) -> None:
    """The capture drains, the file is finished, the report written, and the exit status is that of a stop."""
    with Terminal() as terminal:
        terminal.read()
        process = terminal.log_in(stage.argv(*arguments), **stage.options)
        stage.captures()
        terminal.shut()
        assert process.wait(10) == 0
    report = stage.reported()
    assert (report["reason"], report["outcome"], report["packets"]) == ("hung up", "complete", 5)


def test_a_terminal_with_a_shell_that_is_closed(stage: Stage) -> None:
    """A closed terminal counts as one stop, although both kernel and shell send SIGHUP."""
    with Terminal() as terminal:
        terminal.read()
        shell = terminal.log_in(["bash", "--norc", "-i"], **stage.options)
        terminal.type(shlex.join(stage.argv()) + "\n")
        stage.captures()
        terminal.shut()
        shell.wait(10)
    report = stage.reported()
    assert (report["reason"], report["outcome"], report["packets"]) == ("hung up", "complete", 5)


def in_a_terminal(stage: Stage) -> None:
    with Terminal() as terminal:
        terminal.read()
        terminal.log_in(["bash", "--norc", "-i"], **stage.options)
        terminal.type(f"nohup {shlex.join(stage.argv())} &\n")
        stage.captures()
        terminal.shut()


def in_a_shell_that_ends(stage: Stage) -> None:
    run(["sh", "-c", f"{shlex.join(stage.argv())} >/dev/null 2>&1 &"], **stage.options)
    stage.captures()


@pytest.mark.parametrize("start", [in_a_terminal, in_a_shell_that_ends])
def test_what_goes_on(start: Callable[[Stage], None], stage: Stage) -> None:
    """Under nohup, and in the background, the end of terminal or shell does not end a capture."""
    start(stage)
    assert not stage.stopped.wait(1.0)
    stage.over.set()
    report = stage.reported()
    assert (report["reason"], report["outcome"], report["packets"]) == ("duration", "complete", 3)
