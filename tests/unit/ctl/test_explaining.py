"""``--explain``: the process beside the capture, its numbers, its bounds, and what is said when it ends early."""

from __future__ import annotations

import os
import signal
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from pcapd.analysis.report import as_dict
from pcapd.ctl.display.explain import as_lines, explain
from pcapd.ctl.explaining import explainer as explainer_module
from pcapd.ctl.explaining.explainer import Explained, Explainer
from pcapd.ctl.options import CaptureOptions
from pcapd.ctl.sinks.fileoptions import FileOptions, Rotation
from pcapd.merge.muxer import Muxer, Piece
from pcapd.savefile.form import Form
from pcapd.wire import Source
from tests.kit.segments import ACK, CLIENT, RST, SERVER, SYN, ipv4, tcp

START = 1_700_000_000
RAW = 101
_EXPLAIN = FileOptions(explain=True)


def refused(port: int) -> List[bytes]:
    """A connection that the server refuses."""
    syn, rst = tcp((port, 80), 99, 0, SYN), tcp((80, port), 0, 100, RST | ACK)
    return [ipv4(CLIENT, SERVER, 6, syn, port), ipv4(SERVER, CLIENT, 6, rst, port + 1)]


def failing(port: int, count: int) -> List[bytes]:
    """A connection that stays open, with requests that fail."""
    up, down = (port, 80), (80, port)
    packets = [(CLIENT, tcp(up, 99, 0, SYN)), (SERVER, tcp(down, 299, 100, SYN | ACK))]
    packets.append((CLIENT, tcp(up, 100, 300, ACK)))
    seq, ack = 100, 300
    for _ in range(count):
        request, answer = b"GET /x?key=1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"
        packets.append((CLIENT, tcp(up, seq, ack, ACK, request)))
        packets.append((SERVER, tcp(down, ack, seq + len(request), ACK, answer)))
        seq, ack = seq + len(request), ack + len(answer)
    return [
        ipv4(who, SERVER if who == CLIENT else CLIENT, 6, data, at) for at, (who, data) in enumerate(packets)
    ]


class Capture:
    """A capture with a file and an explainer.

    Args:
        path: The file; None writes none.
        form: Of the file.
        files: Further options.
    """

    def __init__(self, path: Path | None, form: Form = Form.PCAPNG, files: FileOptions = _EXPLAIN) -> None:
        self.path = path
        self.muxer = Muxer(form, 65535, ordered=False)
        self.muxer.source(1, Source("web-0", "eth0", RAW, 65535, ""), 0)
        self.explainer = Explainer(CaptureOptions(str(path or ""), form, files=files))
        self.us = 0
        if path is not None:
            path.write_bytes(b"")

    def write(self, packets: List[bytes]) -> None:
        """As the loop of a capture does."""
        records = b""
        for data in packets:
            self.us += 300
            records += struct.pack("<4I", START, self.us, len(data), len(data)) + data
        if packets:
            self.muxer.packets(1, records, 0.0)
        self._pass(self.muxer.take_pieces(0.0))

    def _pass(self, pieces: List[Piece]) -> None:
        if self.path is not None:
            with self.path.open("ab") as file:
                file.write(b"".join(piece.data for piece in pieces))
        self.explainer.write(pieces)

    def end(self, go_on: Callable[[float], bool] = lambda waited: True) -> Explained:
        """End it, and wait for the findings."""
        self._pass(self.muxer.finish_pieces((START + 1) * 1_000_000))
        return self.explainer.result([str(self.path)] if self.path is not None else [], go_on)

    def until(self, condition: Callable[[], bool]) -> None:
        """Go on without packets until something has happened."""
        for _ in range(400):
            if condition():
                return
            self.write([])
            time.sleep(0.05)
        raise AssertionError(self.explainer.text)

    @property
    def process(self) -> int:
        """The process id."""
        process = self.explainer._process
        assert process is not None and process._popen is not None
        return process._popen.pid


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    one = Capture(tmp_path / "a.pcapng")
    yield one
    one.explainer.discard()


@pytest.mark.parametrize("form", list(Form))
def test_the_result_is_that_of_the_file(tmp_path: Path, form: Form) -> None:
    """The text and the object are those of ``pcapctl explain FILE``, also with nothing to explain."""
    for packets in ([], refused(40000) + failing(40001, 3)):
        capture = Capture(tmp_path / f"{len(packets)}.{form.name.lower()}", form)
        for packet in packets:
            capture.write([packet])
        explained = capture.end()
        found = explain([str(capture.path)])
        assert explained.facts == as_dict(found) and explained.lines == as_lines(found, everything=False)
        assert not explained.skipped and not explained.problem


def test_findings_are_counted_while_it_runs(capture: Capture) -> None:
    """The number includes connections that are still open, and increases."""
    assert capture.explainer.text == "findings: none so far"
    capture.write(refused(40000))
    capture.until(lambda: capture.explainer.text == "findings: 1 error")
    capture.write(failing(40001, 3))
    capture.until(lambda: capture.explainer.text == "findings: 2 errors")
    assert capture.explainer.counts == {"errors": 2, "warnings": 0, "skipped": 0}
    facts = capture.end().facts
    assert facts is not None and len(facts["findings"]) == 2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A small backlog, and as small a pipe as the system has."""
    monkeypatch.setattr(explainer_module, "_PIPE", 4096)
    monkeypatch.setattr(explainer_module, "EXPLAIN_BACKLOG", 20_000)
    return 20_000


def overrun(capture: Capture, limit: int) -> None:
    """Stop the process, and write more than it accepts; then let it catch up."""
    capture.until(lambda: capture.explainer.counts["errors"] == 1)
    os.kill(capture.process, signal.SIGSTOP)
    assert capture.explainer._process is not None
    for port in range(41000, 41400):
        capture.write(refused(port))
        assert capture.explainer._process.backlog <= limit
    assert 0 < capture.explainer.skipped < 800
    assert f"({capture.explainer.skipped} packets skipped)" in capture.explainer.text
    os.kill(capture.process, signal.SIGCONT)
    assert capture.explainer._process is not None
    capture.until(lambda: capture.explainer._process is not None and not capture.explainer._process.backlog)


def test_what_does_not_fit_is_skipped_and_the_file_is_explained(tmp_path: Path, small: int) -> None:
    """The capture does not wait for a slow process; the result is nevertheless that of all packets."""
    capture = Capture(tmp_path / "a.pcapng")
    capture.write(refused(40000))
    overrun(capture, small)
    explained = capture.end()
    assert explained.facts == as_dict(explain([str(capture.path)])) and not explained.skipped
    assert explained.facts["packets"] == 802


def test_without_a_file_it_says_what_was_skipped(small: int) -> None:
    """Findings from before the gap are kept, and nothing is concluded from the gap itself."""
    capture = Capture(None)
    capture.write(failing(40000, 3))
    overrun(capture, small)
    capture.write(refused(42000))
    capture.until(lambda: capture.explainer.counts["errors"] == 2)
    explained = capture.end()
    assert explained.facts is not None and explained.skipped == capture.explainer.skipped > 0
    assert [one["kind"] for one in explained.facts["findings"]] == ["connection_refused"]
    before, last = explained.lines[-2:]
    assert before.startswith("before packets were skipped: error: http_errors: 3 of 3 requests")
    assert last == f"{explained.skipped} packets came too fast to be explained"


def test_rotated_files_are_one_capture(tmp_path: Path) -> None:
    """A connection may begin in one file and end in the next; packet numbers of one file would be wrong."""
    capture = Capture(tmp_path / "a.pcapng", files=replace(_EXPLAIN, rotation=Rotation(size=1000)))
    capture.write(refused(40000))
    explained = capture.end()
    assert explained.facts is not None and explained.facts["files"] == [str(capture.path)]
    assert [one["frames"] for one in explained.facts["findings"]] == [[]]


def test_a_process_that_dies_costs_nothing(capture: Capture) -> None:
    """The capture continues, and the file is explained at the end."""
    capture.write(refused(40000))
    os.kill(capture.process, signal.SIGKILL)
    capture.until(lambda: capture.explainer.text == "findings at the end")
    capture.write(refused(40001))
    facts = capture.end().facts
    assert facts is not None and facts["packets"] == 4


def test_the_user_need_not_wait(capture: Capture) -> None:
    """The wait for the result can be given up, even if the process hangs."""
    os.kill(capture.process, signal.SIGSTOP)
    explained = capture.end(lambda waited: waited < 0.3)
    assert explained.facts is None and "interrupted" in explained.problem
