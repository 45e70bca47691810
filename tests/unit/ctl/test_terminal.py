"""Writing to a terminal: lines above, a region below, and nobody waits for it."""

from __future__ import annotations

import os
import threading
from typing import TextIO

from demo.processes import wait_until
from pcapd.ctl.display.terminal import Line, Terminal
from pcapd.limits import TERMINAL_LINE_MAX, TERMINAL_LINES_MAX
from tests.kit.lab.terminals import Terminal as Lab


def stream(lab: Lab, encoding: str = "utf-8") -> TextIO:
    return os.fdopen(os.dup(lab.slave), "w", encoding=encoding)


def region(*lines: str) -> list[Line]:
    return [Line(line, len(line)) for line in lines]


def close(terminal: Terminal) -> None:
    """Close it, which waits for nobody who does not come."""
    closing = threading.Thread(target=terminal.close, daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive(), "it waits"


def quiet(terminal: Terminal) -> None:
    wait_until(lambda: not terminal.busy, "it is written")


def test_lines_above_a_region() -> None:
    """The region is drawn anew below what was said, and is gone at the end."""
    with Lab(40, 10) as lab, stream(lab) as out:
        lab.read()
        terminal = Terminal(out)
        terminal.line("first")
        terminal.show(region("table 1", "row 1", "row 2"))
        lab.wait_for("row 2")
        terminal.line("second")
        lab.wait_for("second")
        quiet(terminal)
        terminal.show(region("table 2"))
        assert lab.wait_for("table 2")[:4] == ["first", "second", "table 2", ""]
        close(terminal)
        wait_until(lambda: lab.rows[:3] == ["first", "second", ""], "the region is gone")


def test_a_region_that_was_wrapped_is_erased_as_a_whole() -> None:
    """A region that was wrapped by a narrower terminal is erased as a whole."""
    with Lab(40, 10) as lab, stream(lab) as out:
        lab.read()
        terminal = Terminal(out)
        terminal.line("first")
        # What a terminal does on its own at a new width: the region's one line is on two.
        terminal.show([Line("x" * 20 + "\r\n" + "y" * 10, 30)])
        lab.wait_for("y" * 10)
        quiet(terminal)
        lab.resize(20, 10)
        terminal.show(region("table 2"))
        assert lab.wait_for("table 2")[:3] == ["first", "table 2", ""]


def test_a_terminal_that_does_not_read() -> None:
    """A terminal that does not read delays no caller; the latest region and a bounded number of lines are kept."""
    with Lab(60, 10) as lab, stream(lab) as out:
        lab.fill()
        terminal = Terminal(out, patience=0.1)
        terminal.line("stuck")
        wait_until(lambda: terminal.busy, "it is held up")
        for number in range(3 * TERMINAL_LINES_MAX):
            terminal.line(f"line {number}")
            terminal.show(region(f"table {number}"))
        assert terminal.busy
        close(terminal)  # gives up
        lab.read()
        last = 3 * TERMINAL_LINES_MAX - 1
        wait_until(lambda: f"line {last}\r\n".encode() in lab.raw, "the last line")
        text = lab.raw.decode()
        assert f"({2 * TERMINAL_LINES_MAX} lines are missing here" in text
        assert "table 5\r\n" not in text, "nothing of the regions in between"
        assert f"line {2 * TERMINAL_LINES_MAX}\r\n" in text and "line 5\r\n" not in text


def test_a_terminal_that_is_gone() -> None:
    """A terminal that is gone is not written to any more, and closing does not wait for it."""
    lab = Lab()
    out = stream(lab)
    lab.__exit__(None, None, None)  # both ends: writing fails from now on
    terminal = Terminal(out, patience=1000.0)
    terminal.line("nobody")
    terminal.show(region("table"))
    close(terminal)


def test_other_encodings() -> None:
    """Characters outside the terminal's encoding are escaped."""
    with Lab() as lab, stream(lab, "ascii") as out:
        lab.read()
        terminal = Terminal(out)
        terminal.line("Jürgen")
        lab.wait_for("J\\xfcrgen")


def test_nothing_said_nothing_written() -> None:
    """A terminal that was never used starts no thread and waits for none when it is closed."""
    with Lab() as lab, stream(lab) as out:
        close(Terminal(out, patience=1000.0))
        assert lab.raw == b""


def test_a_line_without_end() -> None:
    """A line without an end is kept to a bounded length."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "w") as out:
        terminal = Terminal(out)
        terminal.line("x" * 3 * TERMINAL_LINE_MAX)
        close(terminal)
        assert os.read(read_fd, 65536) == b"x" * TERMINAL_LINE_MAX + b"\n"
    os.close(read_fd)


def test_what_was_not_begun_is_not_taken() -> None:
    """A terminal is busy from the moment when it is given text."""
    with Lab() as lab, stream(lab) as out:
        lab.read()
        terminal = Terminal(out)
        terminal.show(region("table 1"))
        quiet(terminal)
        with terminal._changed:  # it cannot begin
            terminal.show(region("table 2"))
            assert terminal.busy
        quiet(terminal)
