"""pcapctl on a terminal: a real pty, seen with pyte, and an api that a script plays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from demo.daemons import environment
from demo.processes import wait_until
from pcapd.wire import End, EndReason, Notice, NoticeType, Stats
from tests.kit.doubles.stream_api import Client, StreamApi, now_us, record
from tests.kit.hosts.chain import read_pcapng
from tests.kit.hosts.scripted import TOKEN, ended, started
from tests.kit.lab.terminals import Terminal

#: Lines and columns are moved and cleared, nothing else.
_MOVES = re.compile(rb"\r|\x1b\[\d+A|\x1b\[J")


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("screen-api", dns=("localhost",), ips=(LOCAL,))


class Stage:
    """An api whose script waits for the test, step by step."""

    def __init__(self) -> None:
        self._go = threading.Semaphore(0)

    def go(self) -> None:
        """Let it take a step."""
        self._go.release()

    def wait(self) -> None:
        """Wait for the step."""
        assert self._go.acquire(timeout=60)


def begin(
    terminal: Terminal,
    api: StreamApi,
    credentials: Credentials,
    path: Path,
    *arguments: str,
    **variables: str,
) -> subprocess.Popen[bytes]:
    """Start pcapctl on the terminal."""
    argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "web-1", "--api", api.url]
    argv += ["--ca", str(credentials.ca), "--output", str(path), *arguments]
    environ = {**environment(), "PCAP_TOKEN": TOKEN, "TERM": "xterm-256color", **variables}
    environ = {name: value for name, value in environ.items() if value or name != "NO_COLOR"}
    process = terminal.start(argv, env=environ, stdout=subprocess.DEVNULL)
    terminal.hang_up()
    return process


def two_hosts(stage: Stage) -> Any:
    """Two sources with packets, drops at one of them, and a notice."""

    def script(client: Client) -> None:
        client.greet()
        client.open(1, "web-0", words="not (host 192.0.2.1) and (udp)")
        client.open(2, "web-1")
        stage.wait()
        client.packets(record(1) + record(2))
        client.packets(record(3), 2)
        client.say(client.callee.stats(1, Stats(5, 3, 0, 2, now_us())))
        client.stats(1, number=2)
        stage.wait()
        client.say(client.callee.notice(Notice(NoticeType.CONGESTED, "web-1 is slow \x1b[2J[red]", "web-1")))
        stage.wait()
        client.say(client.callee.stats(1, Stats(5, 3, 0, 2, now_us(), final=True)))
        client.stats(1, number=2, final=True)
        client.say(client.callee.end(End(EndReason.DURATION)))
        client.close()
        client.wait()

    return script


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_capture(no_color: str, credentials: Credentials, tmp_path: Path) -> None:
    """The screen shows the plan, the table, a notice above it, and at the end the report alone."""
    stage = Stage()
    with StreamApi(credentials, two_hosts(stage)) as api, Terminal(80, 24) as terminal:
        terminal.read()
        process = begin(
            *(terminal, api, credentials, tmp_path / "x.pcapng"),
            *("--filter", "udp", "--duration", "1h", "--max-bytes", "100MB"),
            NO_COLOR=no_color,
        )
        rows = terminal.wait_for("web-1:eth0 open")
        assert rows[0] == "targets: web-0, web-1"
        assert rows[1] == "filter: udp, without the capture's own connections; whole packets"
        assert rows[2] == "limits: 3600 s, 100 MB; writing to " + str(tmp_path / "x.pcapng")[: 80 - 35]
        stage.go()
        terminal.wait_for("3 packets written", "(59:")
        text = terminal.text
        assert re.search(r"web-0:eth0 open +2 +152 B +\d+ \S+ +3 +0", text), text
        assert re.search(r"web-1:eth0 open +1 +76 B +\d+ \S+ +0 +0", text), text
        assert re.search(r"all +3 +228 B +\d+ \S+ +3 +0", text), text
        stage.go()
        terminal.wait_for("web-1: web-1 is slow \\x1b[2J[red]", "all  ")
        stage.go()
        assert process.wait(30) == 3
        terminal.wait_for("pcapctl: the file is valid")
        assert "instance" not in terminal.text and "Ctrl-C" not in terminal.text, "the table is gone"
        assert "stopped: duration" in terminal.text
        coloured = re.search(rb"\x1b\[[0-9;]*m", terminal.raw)
        assert (coloured is None) == bool(no_color)
        rest = _MOVES.sub(b"", re.sub(rb"\x1b\[[0-9;]*m", b"", terminal.raw))
        assert b"\x1b" not in rest
    assert not api.failures


def test_notices_stand_above_the_table(credentials: Credentials, tmp_path: Path) -> None:
    """Notices scroll above the table, which stays at the bottom."""
    stage = Stage()
    with StreamApi(credentials, two_hosts(stage)) as api, Terminal(80, 24) as terminal:
        terminal.read()
        process = begin(terminal, api, credentials, tmp_path / "x.pcapng")
        stage.go()
        stage.go()
        rows = terminal.wait_for("web-1: web-1 is slow", "3 packets written")
        (notice,) = [number for number, row in enumerate(rows) if row.startswith("web-1: web-1 is slow")]
        (head,) = [number for number, row in enumerate(rows) if row.startswith("instance")]
        (total,) = [number for number, row in enumerate(rows) if row.startswith("all ")]
        assert notice < head < total
        stage.go()
        process.wait(30)


def test_many_instances(credentials: Credentials, tmp_path: Path) -> None:
    """With 200 instances, some with hostile names, the table fits the screen and counts what it leaves out."""
    stage = Stage()

    def script(client: Client) -> None:
        client.greet()
        for number in range(1, 201):
            client.open(number, "[b]evil[/b]" if number == 100 else f"web-{number}")
        client.packets(record(1), 100)
        for final in (False, True):
            for number in range(1, 201):
                client.stats(int(number == 100), number=number, final=final)
            if not final:
                stage.wait()
        client.say(client.callee.end(End(EndReason.DURATION)))
        client.close()
        client.wait()

    with StreamApi(credentials, script) as api, Terminal(80, 24) as terminal:
        terminal.read()
        process = begin(terminal, api, credentials, tmp_path / "x.pcapng")
        rows = terminal.wait_for("and 184 more", "1 packets written")
        assert "[b]evil[/b]:eth0 open" in terminal.text, terminal.text
        # One screen of 24 lines: nothing was scrolled away but by the lines said before.
        assert len([row for row in rows if re.search(r":eth0 +open", row)]) == 16
        stage.go()
        assert process.wait(30) == 0


def test_a_small_terminal(credentials: Credentials, tmp_path: Path) -> None:
    """On a small terminal the table has fewer columns and rows, and is drawn in place."""
    stage = Stage()
    with StreamApi(credentials, two_hosts(stage)) as api, Terminal(40, 10) as terminal:
        terminal.read()
        process = begin(terminal, api, credentials, tmp_path / "x.pcapng")
        stage.go()
        rows = terminal.wait_for("3 packets written", "all  ")
        assert len([row for row in rows if row.startswith("instance")]) == 1
        assert len([row for row in rows if row.startswith("all ")]) == 1
        stage.go()
        stage.go()
        assert process.wait(30) == 3


def test_a_dumb_terminal(credentials: Credentials, tmp_path: Path) -> None:
    """A dumb terminal gets plain lines, as where there is no terminal."""

    def script(client: Client) -> None:
        started(client)
        ended(client, 3)

    with StreamApi(credentials, script) as api, Terminal(80, 24) as terminal:
        terminal.read()
        process = begin(terminal, api, credentials, tmp_path / "x.pcapng", TERM="dumb")
        terminal.wait_for("stopped: duration")
        assert process.wait(30) == 0
        assert b"\x1b" not in terminal.raw
        assert len(terminal.raw.splitlines()) == 4


def test_quiet_and_json(credentials: Credentials, tmp_path: Path) -> None:
    """With --quiet or --json no table is drawn."""

    def script(client: Client) -> None:
        started(client)
        ended(client, 3)

    for option in ("--quiet", "--json"):
        with StreamApi(credentials, script) as api, Terminal(80, 24) as terminal:
            terminal.read()
            process = begin(terminal, api, credentials, tmp_path / f"x{option}.pcapng", option)
            assert process.wait(30) == 0
            assert terminal.raw == b""


def test_packets_on_standard_output(credentials: Credentials, tmp_path: Path) -> None:
    """With packets on standard output nothing on the terminal is erased."""

    def script(client: Client) -> None:
        started(client)
        ended(client, 3)

    with StreamApi(credentials, script) as api, Terminal(80, 24) as terminal:
        terminal.read()
        process = begin(terminal, api, credentials, Path("-"))
        assert process.wait(30) == 0
        terminal.wait_for("stopped: duration")
        assert b"\x1b" not in terminal.raw


@pytest.mark.parametrize("foreground", [True, False])
def test_the_background(foreground: bool, credentials: Credentials, tmp_path: Path) -> None:
    """A job that was started with & leaves the terminal to the shell, and reports at its end."""
    stage = Stage()
    # A session of its own with the terminal, and in it a group in front: the shell's or the capture's.
    program = (
        "import fcntl, os, subprocess, sys, termios\n"
        "os.setsid(); fcntl.ioctl(2, termios.TIOCSCTTY, 0)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os.setpgid(0, 0) if sys.argv[1] == 'False' else None\n"
        "    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    with StreamApi(credentials, two_hosts(stage)) as api, Terminal(80, 24) as terminal:
        terminal.read()
        argv = [sys.executable, "-c", program, str(foreground), "-m", "pcapd.ctl", "hosts", "web-0"]
        argv += ["--api", api.url, "--ca", str(credentials.ca), "--output", str(tmp_path / "x.pcapng")]
        env = {**environment(), "PCAP_TOKEN": TOKEN, "TERM": "xterm"}
        process = terminal.start(argv, env=env, stdout=subprocess.DEVNULL)
        terminal.hang_up()
        stage.go()
        stage.go()
        terminal.wait_for("web-1: web-1 is slow")
        if foreground:
            terminal.wait_for("web-0:eth0 open")
        stage.go()
        assert process.wait(30) == 3
        terminal.wait_for("stopped: duration")
        assert (b"\x1b[J" in terminal.raw) == foreground


def test_ctrl_c(credentials: Credentials, tmp_path: Path) -> None:
    """The table says that the capture stops, as long as it does."""

    def script(client: Client) -> None:
        started(client)
        next(client.heard())  # STOP
        stage.wait()
        ended(client, 3)

    stage = Stage()
    with StreamApi(credentials, script) as api, Terminal(80, 24) as terminal:
        terminal.read()
        process = begin(terminal, api, credentials, tmp_path / "x.pcapng")
        terminal.wait_for("3 packets written", "Ctrl-C stops")
        process.send_signal(signal.SIGINT)
        terminal.wait_for("stopping: interrupted", "web-0:eth0 stopping")
        stage.go()
        assert process.wait(30) == 0
        terminal.wait_for("stopped: interrupted")


@pytest.mark.parametrize("reads_again", [True, False])
@pytest.mark.long(but=("True",))
def test_a_terminal_that_does_not_read(reads_again: bool, credentials: Credentials, tmp_path: Path) -> None:
    """A terminal that does not read holds up no packet, and gets the report when it reads again."""
    count = 20_000

    def script(client: Client) -> None:
        client.greet()
        client.open()
        for first in range(0, count, 100):
            client.packets(b"".join(record(number) for number in range(first, first + 100)))
            client.say(client.callee.notice(Notice(NoticeType.UNKNOWN, "x" * 200, "web-0")))
        client.stats(count)
        ended(client, count)
        done.set()

    done = threading.Event()
    path = tmp_path / "x.pcapng"
    with StreamApi(credentials, script) as api, Terminal(80, 24) as terminal:
        terminal.fill()
        process = begin(terminal, api, credentials, path)
        assert done.wait(60), "the capture came to its end"
        wait_until(lambda: path.exists() and _complete(path, count), "the file is whole", timeout=30)
        assert process.poll() is None, "it has not been able to report yet"
        if reads_again:
            terminal.read()
            terminal.wait_for(f"{count} packets", "stopped: duration")
        assert process.wait(60) == 0
    assert not api.failures


def _complete(path: Path, count: int) -> bool:
    file = read_pcapng(path)
    return len(file.packets) == count and file.rest == 0


def test_a_terminal_that_hangs_up(credentials: Credentials, tmp_path: Path) -> None:
    """Under nohup a terminal that hangs up does not end the capture."""
    stage = Stage()

    def script(client: Client) -> None:
        started(client)
        stage.wait()
        ended(client, 3)

    path = tmp_path / "x.pcapng"
    with StreamApi(credentials, script) as api:
        terminal = Terminal(80, 24)
        process = begin(terminal, api, credentials, path)
        wait_until(lambda: path.exists() and path.stat().st_size > 0, "it captures")
        os.close(terminal._master)
        stage.go()
        assert process.wait(30) == 0
    assert len(read_pcapng(path).packets) == 3


# --- a stop that takes its time --------------------------------------------------------


def talks_on(client: Client) -> None:
    """After STOP the second source goes on with counters, and never ends."""
    client.greet()
    client.open(1, "web-0")
    client.open(2, "web-1")
    next(client.heard())
    client.stats(0, number=1, final=True)
    while True:  # until the client leaves
        client.stats(0, number=2)
        time.sleep(0.1)


@pytest.mark.long
def test_a_stop_shows_what_it_waits_for(credentials: Credentials, tmp_path: Path) -> None:
    """The table counts the seconds, says for whom, for how long at most, and what leaves at once; which it does."""
    with StreamApi(credentials, talks_on) as api, Terminal(100, 24) as terminal:
        terminal.read()
        process = begin(terminal, api, credentials, tmp_path / "x.pcapng")
        terminal.wait_for("web-1:eth0 open")
        process.send_signal(signal.SIGINT)
        terminal.wait_for(
            "waiting 1 s for web-1:eth0", "12 s left", "a second Ctrl-C or SIGTERM leaves at once"
        )
        terminal.wait_for("waiting 2 s for web-1:eth0", "11 s left")
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 1
        terminal.wait_for("stopped: interrupted twice")
    assert not api.failures


@pytest.mark.parametrize("json_lines", [False, True], ids=["text", "json"])
@pytest.mark.long(but=("--print",))
def test_a_stop_without_a_table_says_so_once(
    json_lines: bool, credentials: Credentials, tmp_path: Path
) -> None:
    """Without a table the first Ctrl-C gives one line, or one event."""
    with StreamApi(credentials, talks_on) as api:
        path = tmp_path / "out"
        with path.open("wb") as out:
            argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "web-1", "--api", api.url]
            argv += ["--ca", str(credentials.ca), "--output", str(tmp_path / "x.pcapng")]
            argv += ["--json"] if json_lines else ["--verbose"]
            env = {**environment(), "PCAP_TOKEN": TOKEN}
            process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
        words = '"stopping"' if json_lines else "stopping: interrupted; waiting 0 s for web-"
        wait_until(lambda: "web-1:eth0" in path.read_text(), "it captures", timeout=30)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: words in path.read_text(), "it says what it waits for")
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 1
    (line,) = [line for line in path.read_text().splitlines() if words in line]
    assert "web-1:eth0" in line
    if json_lines:
        event = json.loads(line)
        assert event["reason"] == "interrupted" and 12 < event["seconds_left"] <= 13.3
    else:
        assert line.endswith("13 s left; a second Ctrl-C or SIGTERM leaves at once")
    assert not api.failures
