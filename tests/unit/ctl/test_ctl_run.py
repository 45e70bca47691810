"""One capture from the command's options to its exit status, in this process, with an api that a script plays."""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from demo.configurations import LOCAL
from demo.processes import wait_until
from pcapd.ctl.display import live as live_module
from pcapd.ctl.display import reporter as reporter_module
from pcapd.ctl.display.live import Live
from pcapd.ctl.display.reporter import can_redraw
from pcapd.ctl.display.terminal import Line
from pcapd.ctl.options import Access, CaptureOptions, CaptureTarget
from pcapd.ctl.run import run
from pcapd.ctl.sinks import output as output_module
from pcapd.ctl.sinks.fileoptions import FileOptions
from pcapd.ctl.stream.connection import Connection
from pcapd.ctl.stream.session import CaptureSession
from pcapd.errors import PcapdError
from pcapd.limits import NAME_MAX, REPORT_NOTICE_MAX
from pcapd.merge.muxer import Muxer
from pcapd.savefile.form import Form
from pcapd.savefile.reader import read_file
from pcapd.wire import Counters, End, EndReason, Error, Limits, Notice, NoticeType, Request, Source, Stop
from tests.kit.doubles.stream_api import Client, Script, StreamApi, frame, now_us, record
from tests.kit.lab.terminals import Terminal


def started(client: Client) -> None:
    """A capture with three packets, all of them due."""
    client.greet()
    client.open()
    client.packets(record(1) + record(2) + record(3))
    client.stats(3)


def ended(client: Client) -> None:
    """A proper end of it."""
    client.stats(3, final=True)
    client.say(client.callee.end(End(EndReason.DURATION, "", (Counters(1, 3, 0, 0, 3),))))
    client.close()
    client.wait()


def good(client: Client) -> None:
    started(client)
    ended(client)


def datagram(number: int) -> bytes:
    """A record of a packet that is the same wherever it is seen."""
    packet = struct.pack("!BBHHHBBH4s4s4H", 0x45, 0, 28, number, 0, 64, 17, 0, b"abcd", b"efgh", 1, 2, 8, 0)
    data = bytes(12) + b"\x08\x00" + packet
    return struct.pack("<4I", now_us() // 1_000_000, number, len(data), len(data)) + data


def interrupt() -> None:
    """As Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def left(client: Client) -> None:
    """Until the client leaves, which it should do soon."""
    client._socket.settimeout(5.0)
    client.wait()


class Stage:
    """Where captures go in a test."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "x.pcapng"
        self.report_path = directory / "report.json"

    def options(self, **changes: Any) -> CaptureOptions:
        return replace(CaptureOptions(str(self.path), Form.PCAPNG, report=self.report_path), **changes)

    def play(self, script: Script, **changes: Any) -> int:
        """Capture from the script."""
        with StreamApi(None, script) as api:
            access = Access(f"http://{LOCAL}:{api.port}", "token")
            status = run(lambda: Connection(access), self.options(**changes), CaptureTarget(("web-0",)))
        assert not api.failures, api.failures
        return status

    @property
    def report(self) -> Dict[str, Any]:
        report: Dict[str, Any] = json.loads(self.report_path.read_text())
        return report


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A capture that was interrupted ignores further signals, which is for a process that ends."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize("wanted", [False, True])
def test_numbers_of_packets(wanted: bool, stage: Stage) -> None:
    """Packets are numbered only when an option needs it."""

    def script(client: Client) -> None:
        client.greet()
        client.open()
        client.packets(datagram(1) + datagram(2) + datagram(3))
        ended(client)

    assert stage.play(script, files=FileOptions(packet_ids=wanted)) == 0
    with stage.path.open("rb") as file:
        numbered = [packet.packet_id is not None for packet in read_file(file)]
    assert numbered == [wanted] * 3


def test_what_is_kept_of_a_notice(stage: Stage) -> None:
    """An api fills no report with names and words without end."""

    def script(client: Client) -> None:
        started(client)
        client.say(client.callee.notice(Notice(NoticeType.CONGESTED, "w" * 2000, "o" * 1000)))
        ended(client)

    assert stage.play(script) == 0
    words = {"message": "w" * REPORT_NOTICE_MAX, "origin": "o" * NAME_MAX}
    assert stage.report["notices"] == [{"type": "CONGESTED", **words}]


def test_what_comes_after_the_end(stage: Stage) -> None:
    """Frames after END change nothing, and the capture is complete."""

    def script(client: Client) -> None:
        started(client)
        client.stats(3, final=True)
        end = bytes(client.callee.end(End(EndReason.DURATION)))
        more = frame(200, b"more")
        # Both are read at once.
        client.raw(b"".join(struct.pack("!BB", 0x82, len(data)) + data for data in (end, more)))
        client.wait()

    assert stage.play(script) == 0 and stage.report["error"] is None


# --- Ctrl-C ---------------------------------------------------------------------------


def test_ctrl_c_before_the_api_answers(stage: Stage) -> None:
    """One Ctrl-C before the api answers ends pcapctl."""

    def script(client: Client) -> None:
        client.head()
        interrupt()
        left(client)

    with pytest.raises(PcapdError, match="interrupted before the capture started"):
        stage.play(script)
    assert not stage.path.exists()


def test_ctrl_c(stage: Stage) -> None:
    """After Ctrl-C the api is asked to stop, and its remaining packets are written."""

    def script(client: Client) -> None:
        client._socket.settimeout(5.0)
        started(client)
        interrupt()
        assert isinstance(next(client.heard()), Stop)
        ended(client)

    assert stage.play(script) == 0
    assert stage.report["reason"] == "interrupted" and stage.report["packets"] == 3


def test_ctrl_c_twice(stage: Stage) -> None:
    """After a second Ctrl-C an api that does not stop is left at once."""

    def script(client: Client) -> None:
        client._socket.settimeout(5.0)
        started(client)
        interrupt()
        assert isinstance(next(client.heard()), Stop)
        interrupt()
        left(client)

    assert stage.play(script) == 1
    assert stage.report["reason"] == "interrupted twice"


# --- on a terminal -----------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal(80, 24) as lab:
        lab.read()
        yield lab


@contextmanager
def speaks_to(terminal: Terminal) -> Iterator[None]:
    """Standard error is this terminal, which can move its cursor."""
    with os.fdopen(os.dup(terminal.slave), "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setenv("TERM", "xterm")
        yield


def test_the_table_is_gone_at_the_end(stage: Stage, terminal: Terminal) -> None:
    """The plan stands above the table, and the report takes the table's place."""

    def script(client: Client) -> None:
        started(client)
        terminal.wait_for("web-0:eth0", "Ctrl-C stops")
        ended(client)

    with speaks_to(terminal):
        assert stage.play(script) == 0
    terminal.wait_for("targets: web-0", "stopped: duration")
    wait_until(lambda: "Ctrl-C" not in terminal.text, "the table is gone")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"output": "-"}, True),
        ({"quiet": True}, False),
        ({"json": True}, False),
        ({"files": FileOptions(print=True)}, True),
    ],
    ids=["packets to standard output", "quiet", "json", "print"],
)
def test_where_no_table_belongs(
    changes: Dict[str, Any], says: bool, stage: Stage, terminal: Terminal, capfd: pytest.CaptureFixture[str]
) -> None:
    """No table is drawn where others write to the terminal, or with --quiet."""
    with speaks_to(terminal):
        assert stage.play(good, **changes) == 0
    if says:
        terminal.wait_for("stopped: duration")
    assert b"\x1b" not in terminal.raw and b"Ctrl-C" not in terminal.raw
    assert says or terminal.raw == b""


@pytest.mark.parametrize(
    ("environ", "redraws"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "unknown"}, False),
        ({"TERM": ""}, False),
        ({}, False),
    ],
)
def test_terminals_that_move_their_cursor(environ: Dict[str, str], redraws: bool) -> None:
    """A terminal without a known type cannot move its cursor."""
    assert can_redraw(environ) == redraws


class Screen:
    """A terminal that counts how often a table was drawn."""

    def __init__(self) -> None:
        self.busy = False
        self.drawn = 0

    def show(self, region: list[Line]) -> None:
        self.drawn += 1


def test_how_often_a_table_is_drawn(
    stage: Stage, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is drawn twice a second at most, and not while the terminal is busy or in the background."""
    ours = os.getpgrp()
    group = ours
    monkeypatch.setattr(live_module.os, "tcgetpgrp", lambda fd: group)
    muxer = Muxer(Form.PCAPNG, 262144)
    muxer.source(1, Source("web-0", "eth0", 1, 262144, ""), 5)
    capture = CaptureSession(Request(("web-0",)), muxer, None, 0.0)
    screen: Any = Screen()
    with os.fdopen(os.dup(terminal.slave), "w") as stream:
        live = Live(screen, stream, stage.options())
        for now in (100.0, 100.1, 100.4, 100.5, 100.9):
            live.show(capture, 0, now)
        assert screen.drawn == 2
        screen.busy = True
        live.show(capture, 0, 200.0)
        screen.busy, group = False, ours + 1
        live.show(capture, 0, 300.0)
        assert screen.drawn == 2
        group = ours
        live.show(capture, 0, 400.0)
        assert screen.drawn == 3


# --- what is said ------------------------------------------------------------------------


def test_the_limits_of_the_api_are_said_first(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """The api's limits are shown before any packet, with a warning where they end the capture early."""

    def script(client: Client) -> None:
        client.limits = Limits(3600.0, 10**9)
        good(client)

    assert stage.play(script, duration=7200.0) == 0
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "warning: the api ends this capture after 1 h, not 2 h"
    assert said[1].startswith("capturing targets: web-0; writing to ")
    assert stage.play(script, force=True, json=True) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert events[1] == {"event": "limits", "seconds": 3600.0, "bytes": 10**9}
    assert stage.play(script, force=True) == 0
    assert capfd.readouterr().err.splitlines()[0] == "the api ends captures after 1 h or 1 GB"


def test_a_limit_is_named(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """The report names the limit that ended the capture."""

    def script(client: Client) -> None:
        started(client)
        assert any(isinstance(message, Stop) for message in client.heard())
        ended(client)

    assert stage.play(script, count=3) == 0
    assert "stopped: 3 packets" in capfd.readouterr().err.splitlines()


def test_one_message_for_all_instances(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """Instances that fail for one reason share a line, and none repeats what ended the capture."""

    def failures(client: Client, words: str) -> None:
        for number in (2, 10, 1):
            failed = Notice(NoticeType.START_CAPTURE_FAILED, words, f"web/{number}")
            client.say(client.callee.notice(failed))

    def some(client: Client) -> None:
        started(client)
        failures(client, "no such interface")
        ended(client)

    def all_of_them(client: Client) -> None:
        client.greet()
        failures(client, "a bad filter")
        client.say(client.callee.end(Error("bad-filter", "a bad filter")))
        client.wait()

    assert stage.play(some) == 3
    said = capfd.readouterr().err
    assert said.count("no such interface") == 1 and "web/1, web/2, web/10: no such interface" in said
    assert stage.play(all_of_them, force=True) == 1
    assert capfd.readouterr().err.splitlines() == ["pcapctl: a bad filter"]


def test_a_line_a_minute(
    stage: Stage, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal there is a line at the start, one each minute, and one at the end."""
    monkeypatch.setattr(reporter_module, "_MINUTE", 0.2)

    def script(client: Client) -> None:
        started(client)
        wait_until(lambda: "2 min: 3 packets" in capfd.readouterr().err, "two lines came")
        ended(client)

    assert stage.play(script) == 0


# --- outputs that take nothing more ------------------------------------------------------


@pytest.mark.parametrize("lost", [0, 1])
def test_the_reader_leaves(lost: int, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the reader of standard output leaves, the capture ends in good order, and its status counts losses."""
    read_fd, write_fd = os.pipe()
    monkeypatch.setattr(output_module, "_STDOUT_FD", write_fd)

    def script(client: Client) -> None:
        client.greet()
        client.open()
        os.close(read_fd)
        client.packets(record(1) + record(2))
        client.stats(2)
        assert any(isinstance(message, Stop) for message in client.heard())
        client.packets(record(3))
        client.stats(3 + lost, final=True)
        client.say(client.callee.end(End(EndReason.STOPPED, "", (Counters(1, 3 + lost, 0, 0, 3 + lost),))))
        client.close()

    assert stage.play(script, output="-") == (3 if lost else 0)
    os.close(write_fd)
    report = stage.report
    assert (report["reason"], report["lost"], report["error"]) == (
        "the reader has closed the pipe",
        lost,
        None,
    )
    (source,) = report["sources"]
    assert source["written"] + source["unwanted"] == 3 and source["drops"]["client"] == 0


def test_a_full_disk(stage: Stage) -> None:
    """A full disk is named, the final counters are awaited, and every packet is accounted for."""

    def script(client: Client) -> None:
        started(client)
        assert any(isinstance(message, Stop) for message in client.heard())
        client.packets(record(4))
        client.stats(4, final=True)
        client.say(client.callee.end(End(EndReason.STOPPED, "", (Counters(1, 4, 0, 0, 4),))))
        client.close()

    assert stage.play(script, output="/dev/full", force=True) == 1
    report = stage.report
    assert "No space left" in report["reason"] and report["lost"] == 4
    (source,) = report["sources"]
    assert source["exact"] and source["written"] == 0 and source["drops"]["client"] == 4
