"""Wireshark while a capture runs: its pipes, its toolbar, and what it is told when one of them is gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest

from pcapd.ctl.extcap.configuration import Control
from pcapd.ctl.extcap.control import Controls, Kind, Message, encode, text
from pcapd.ctl.extcap.toolbar import Toolbar, Wireshark, has_reader
from pcapd.ctl.stream.session import CaptureSession, Outcome
from pcapd.errors import PcapdError
from pcapd.merge.muxer import Muxer
from pcapd.savefile.form import Form
from pcapd.wire import Request, Source, Stats

#: What may wait for the toolbar, in bytes.
BACKLOG = 64 * 1024


class Pipes:
    """Wireshark's side: the pipe of the packets, and the two of the toolbar."""

    def __init__(self, directory: Path) -> None:
        self.paths = {name: str(directory / name) for name in ("in", "out")}
        for path in self.paths.values():
            os.mkfifo(path)
        self._packets, self.packets = os.pipe()
        self._controls = Controls()
        self._shown = -1
        self.toolbar = Toolbar(self.paths["in"], self.paths["out"])
        self._pressed = os.open(self.paths["in"], os.O_WRONLY)
        self.wireshark = Wireshark(self.packets, self.toolbar)

    def show(self) -> None:
        """Open the end on which the toolbar is told."""
        self._shown = os.open(self.paths["out"], os.O_RDONLY | os.O_NONBLOCK)

    def press(self, control: int, kind: Kind = Kind.SET) -> None:
        """Send a message."""
        os.write(self._pressed, encode(Message(control, kind)))

    def read(self) -> List[Message]:
        """What the toolbar was told since the last time."""
        try:
            return self._controls.receive(os.read(self._shown, 1 << 20))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Close the pipe of the packets."""
        if self._packets >= 0:
            os.close(self._packets)
        self._packets = -1

    def end(self) -> None:
        self.close()
        for fd in (self.packets, self._pressed, self._shown):
            if fd >= 0:
                os.close(fd)
        for opened in (self.toolbar._in, self.toolbar._out):
            if opened is not None:
                os.close(opened)


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Pipes]:
    pipes = Pipes(tmp_path)
    yield pipes
    pipes.end()


def a_capture(*received: int, **stats: Any) -> CaptureSession:
    """A capture of sources from which so many packets came; the counters are those of the last one."""
    muxer = Muxer(Form.PCAPNG, 262144, ordered=False)
    for number, count in enumerate(received, 1):
        muxer.source(number, Source(f"web-{number}", "eth0", 1, 262144, ""), 5)
        counters = {"received": count, "delivered": count, "captured_up_to_us": 9, "final": True}
        counters |= {"dropped_kernel": 0, "dropped_interface": 0}
        muxer.stats(number, Stats(**{**counters, **(stats if number == len(received) else {})}))
        muxer.accounts[number].received = count
    return CaptureSession(Request(("web-1",)), muxer, None, 0.0)


def shown(messages: List[Message]) -> List[Tuple[int, str]]:
    """What controls were set to."""
    return [(one.control, one.payload.decode()) for one in messages if one.kind == Kind.SET]


# --- the pipes -------------------------------------------------------------------------


def test_a_reader(pipes: Pipes) -> None:
    """A reader counts as present until it closes its end, whether or not it has read."""
    assert has_reader(pipes.packets)
    os.write(pipes.packets, b"x")
    assert has_reader(pipes.packets)
    pipes.close()
    assert not has_reader(pipes.packets)


def test_no_toolbar() -> None:
    """tshark has none: what would be shown is not kept for it."""
    toolbar = Toolbar("", "")
    toolbar.send(text(Control.LOG, Kind.ADD, "words"))
    assert toolbar.idle and toolbar.receive() == []


def test_a_toolbar_that_does_not_read(pipes: Pipes) -> None:
    """The queue of a toolbar that does not read is bounded, and only whole messages are left out."""
    message = text(Control.LOG, Kind.ADD, "x" * 9_000)
    for _ in range(100):
        pipes.toolbar.send(message)
    pipes.show()
    pipes.toolbar.flush()
    assert pipes.read() == [message] * (BACKLOG // len(encode(message)))
    assert pipes.toolbar.idle


def test_a_dialog_that_is_full(pipes: Pipes, capsys: pytest.CaptureFixture[str]) -> None:
    """Wireshark reads it when we have ended, so it must fit into a pipe, however much goes wrong."""
    for _ in range(1000):
        pipes.wireshark.line("é" * 100, important=True)
    said = capsys.readouterr().err
    assert 16_000 < len(said.encode()) <= 16 * 1024 and set(said.splitlines()) == {"é" * 100}


# --- what is pressed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "kind", "stops"),
    [
        (Control.STOP, Kind.SET, True),
        (Control.STOP, Kind.INITIALIZED, False),
        (Control.LOG, Kind.SET, False),
    ],
)
def test_pressed(pipes: Pipes, control: int, kind: Kind, stops: bool) -> None:
    """The button ends the capture and can be pressed once; nothing else does."""
    capture = a_capture()
    pipes.show()
    pipes.press(control, kind)
    pipes.wireshark.turn(capture, 0.0)
    assert capture.reason.startswith("stopped in Wireshark") is stops
    assert ((Control.STOP, Kind.DISABLE, b"") in pipes.read()) is stops


def test_something_else_than_wireshark(pipes: Pipes) -> None:
    """Garbage on the control pipe ends the toolbar but not the capture."""
    capture = a_capture()
    os.write(pipes._pressed, b"GET / HTTP/1.1")
    pipes.wireshark.turn(capture, 0.0)
    assert not capture.over and pipes.toolbar._in is None
    pipes.wireshark.turn(capture, 0.1)


@pytest.mark.parametrize("over", [True, False])
def test_the_pipe_is_closed(pipes: Pipes, over: bool) -> None:
    """A control pipe that closes stops a running capture, and changes nothing in one that is over."""
    capture = a_capture()
    pipes.wireshark.turn(capture, 0.0)
    assert not capture.over
    if over:
        capture.fail(PcapdError("something broke"))
    pipes.close()
    pipes.wireshark.turn(capture, 0.1)
    assert capture.over or capture.waiting(0.2)
    assert capture.reason == (
        "something broke" if over else "Wireshark has closed the pipe before the capture started"
    )


# --- what is shown ----------------------------------------------------------------------


def test_counters(pipes: Pipes) -> None:
    """Counters are sent once a second when they have changed, without places that dropped nothing."""
    capture = a_capture(5, 7)
    pipes.show()
    pipes.wireshark.turn(capture, 1.0)
    assert shown(pipes.read()) == [(Control.PACKETS, "12"), (Control.DROPPED, "0")]
    capture.muxer.accounts[1].received = 6
    pipes.wireshark.turn(capture, 1.9)
    assert shown(pipes.read()) == []
    pipes.wireshark.turn(capture, 2.0)
    assert shown(pipes.read()) == [(Control.PACKETS, "13")]
    pipes.wireshark.turn(capture, 3.0)
    assert shown(pipes.read()) == []
    pipes.wireshark.turn(capture, 3.5, "findings: 1 error")
    pipes.wireshark.turn(capture, 4.0, "findings: 2 errors")
    assert shown(pipes.read()) == [(Control.FINDINGS, "2 errors")]
    dropping = a_capture(5, 7, received=10, dropped_kernel=3)
    pipes.wireshark.turn(dropping, 5.0, "findings: 2 errors")
    assert shown(pipes.read()) == [(Control.PACKETS, "12"), (Control.DROPPED, "kernel 3")]


def test_counters_of_a_toolbar_that_is_late(pipes: Pipes) -> None:
    """A late toolbar gets the log, and only the latest counters."""
    capture = a_capture(5)
    pipes.wireshark.line("words", important=False)
    for second in range(1, 4):
        capture.muxer.accounts[1].received += 1
        pipes.wireshark.turn(capture, float(second))
    pipes.show()
    pipes.toolbar.flush()
    assert pipes.read() == [(Control.LOG, Kind.ADD, b"words\n")]
    pipes.wireshark.turn(capture, 4.0)
    assert shown(pipes.read()) == [(Control.PACKETS, "8"), (Control.DROPPED, "0")]


@pytest.mark.parametrize(("dropped", "words"), [(0, "unknown"), (3, "kernel 3, more unknown")])
def test_what_nobody_knows_is_not_0(pipes: Pipes, dropped: int, words: str) -> None:
    """A lost agent's last drops are shown as unknown, not as 0."""
    pipes.show()
    pipes.wireshark.turn(a_capture(5, exact=False, dropped_kernel=dropped), 1.0)
    assert shown(pipes.read()) == [(Control.PACKETS, "5"), (Control.DROPPED, words)]


# --- the end ------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [True, False])
def test_what_was_dropped(pipes: Pipes, capsys: pytest.CaptureFixture[str], closed: bool) -> None:
    """The sources that lost something are in the dialog, where there still is one."""
    capture = a_capture(5, 7, received=10, dropped_kernel=3)
    assert capture.outcome is Outcome.INCOMPLETE
    if closed:
        pipes.close()
    pipes.wireshark.ended(capture)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in said] == ([] if closed else ["web-2:eth0:"])
    assert not pipes.wireshark.failed(capture)


def test_what_is_missing_without_a_drop(pipes: Pipes, capsys: pytest.CaptureFixture[str]) -> None:
    """Packets that nobody can account for are told, too."""
    pipes.wireshark.ended(a_capture(5, 7, final=False))
    assert capsys.readouterr().err.startswith("web-2:eth0:")


def test_a_whole_capture_says_nothing(pipes: Pipes, capsys: pytest.CaptureFixture[str]) -> None:
    """A complete capture prints nothing and is no failure."""
    capture = a_capture(5, 7)
    pipes.wireshark.ended(capture)
    assert capsys.readouterr().err == "" and not pipes.wireshark.failed(capture)


@pytest.mark.parametrize("ending", ["error", "stopped", "closed"])
def test_failed(pipes: Pipes, ending: str) -> None:
    """An end that Wireshark did not ask for is a failure."""
    capture = a_capture()
    if ending == "stopped":
        pipes.press(Control.STOP)
        pipes.wireshark.turn(capture, 0.0)
    else:
        capture.fail(PcapdError("something broke"))
    if ending == "closed":
        pipes.close()
    assert capture.outcome is Outcome.FAILED
    assert pipes.wireshark.failed(capture) is (ending == "error")
