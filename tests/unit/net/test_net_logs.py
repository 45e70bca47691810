"""The log: one JSON object per line, whatever is logged."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python import log as older

from demo.processes import ROOT
from pcapd.errors import ConfigError
from pcapd.net.logs import AuditFile, JsonLines, start_logging


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(output: io.StringIO) -> Logger:
    """A logger whose events go to `output` only."""
    return Logger(namespace="pcapd.test", observer=JsonLines(output, role="agent", id="agent/0"))


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_has_time_level_daemon_message_and_values(log: Logger, output: io.StringIO) -> None:
    """Both the sentence and its values can be searched for in a log line."""
    log.warn("{count} packets were dropped", count=7, capture="c")
    (line,) = lines(output)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warn",
        "role": "agent",
        "id": "agent/0",
        "message": "7 packets were dropped",
        "count": 7,
        "capture": "c",
    }


@pytest.mark.parametrize("text", ["{evil}", "{0}", "{", "}", "line\nbreak", '"quoted"', "\x1b[2J", "\ud800"])
def test_what_users_write_cannot_break_a_line(log: Logger, output: io.StringIO, text: str) -> None:
    """A filter with braces, line breaks or quotes is one value on one line, and the log goes on."""
    log.info("capture with filter {filter}", filter=text)
    log.info("next")
    first, second = lines(output)
    assert first["filter"] == text and first["message"] == f"capture with filter {text}"
    assert second["message"] == "next"


@pytest.mark.parametrize("key", ["role", "id", "message", "time"])
def test_values_do_not_replace_what_each_line_has(log: Logger, output: io.StringIO, key: str) -> None:
    """A value of the name of a fixed field does not pretend to be it."""
    log.emit(LogLevel.info, "hello", **{key: "forged"})
    (line,) = lines(output)
    assert (line["role"], line["id"], line["message"], line["level"]) == ("agent", "agent/0", "hello", "info")
    assert "forged" not in line["time"]


def test_what_twisteds_older_log_says_about_itself_is_left_out(output: io.StringIO) -> None:
    """Events of Twisted's older log are written as their text alone."""
    observer = JsonLines(output, role="agent")
    globalLogPublisher.addObserver(observer)
    try:
        older.msg("words", capture="c")
    finally:
        globalLogPublisher.removeObserver(observer)
    (line,) = lines(output)
    assert line.keys() == {"time", "level", "role", "message", "capture"} and line["message"] == "words"


def test_a_failure_has_its_traceback(log: Logger, output: io.StringIO) -> None:
    """An unexpected exception is logged with where it came from."""
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.failure("it failed")
    (line,) = lines(output)
    assert line["level"] == "critical" and "RuntimeError: broken" in line["failure"]


def test_a_value_that_json_does_not_know_is_written_as_text(log: Logger, output: io.StringIO) -> None:
    """A value that JSON cannot hold is written as text."""
    log.info("look", thing=LogLevel.info, where={1, 2})
    assert lines(output)[0]["where"] == "{1, 2}"


_TRAIL = """
import os, sys
from pathlib import Path
from pcapd.api.capture.audit import Trail
from pcapd.api.metrics import Metrics
from pcapd.net.logs import AuditFile, start_logging
from twisted.internet.task import Clock
from twisted.logger import Logger
"""


@pytest.mark.parametrize("level", ["info", "warn", "error"])
@pytest.mark.long(but=("error",))
def test_the_audit_log_is_written_whatever_the_level(level: str) -> None:
    """Audit records are written whatever the log level is."""
    program = f"""{_TRAIL}
start_logging({level!r}, role="api", id="api/0")
Logger(namespace="pcapd.api.service").info("chatter")
Trail(Clock(), None, Metrics().audit_failures).record("capture_started", user="alice")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert "audit: capture_started" in messages
    assert ("chatter" in messages) == (level == "info")


def test_a_full_disk_does_not_stop_the_daemon() -> None:
    """An error while writing is swallowed: packets matter more than log lines."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    observer = JsonLines(Full())
    observer({"log_time": 0.0, "log_level": LogLevel.info, "log_format": "hello"})


_AUDITED = f"""{_TRAIL}
file = Path(sys.argv[1])
output = AuditFile(file)
start_logging("info", output, role="api", id="api/0")
trail = Trail(Clock(), output, Metrics().audit_failures)
trail.record("capture_started", user="alice")
os.rename(file, file.with_suffix(".1"))
trail.note("capture_ended", user="alice")
Logger(namespace="pcapd.api.service").info("chatter")
"""


def test_audit_records_in_a_file_of_their_own(tmp_path: Path) -> None:
    """Audit records with a file of their own are only there, and a rotated file is made anew."""
    file = tmp_path / "audit.log"
    file.write_text("older\n")
    done = subprocess.run(
        [sys.executable, "-c", _AUDITED, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    older, first = (tmp_path / "audit.1").read_text().splitlines()
    assert older == "older"
    assert (json.loads(first)["audit"], json.loads(first)["id"]) == ("capture_started", "api/0")
    (second,) = file.read_text().splitlines()
    assert json.loads(second)["audit"] == "capture_ended"
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["chatter"]
    assert file.stat().st_mode & 0o007 == 0


def test_several_processes_write_audit_records(tmp_path: Path) -> None:
    """Lines that several processes write to one file at the same time are not mixed, however long they are."""
    program = """
import json, sys
from pathlib import Path
from pcapd.net.logs import AuditFile
output = AuditFile(Path(sys.argv[1]))
sys.stdin.read()
for number in range(200):
    output.write(json.dumps({"from": sys.argv[2], "targets": [sys.argv[2] * 20] * 1000}) + "\\n")
"""
    file = tmp_path / "audit.log"
    argv = [sys.executable, "-c", program, str(file)]
    writers = [subprocess.Popen([*argv, name], cwd=ROOT, stdin=subprocess.PIPE) for name in "abc"]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(records) == 600
    assert all(record["targets"] == [record["from"] * 20] * 1000 for record in records)


def test_a_file_for_audit_records_that_cannot_be_written(tmp_path: Path) -> None:
    """An api that could not keep its audit log does not start."""
    with pytest.raises(ConfigError, match=r"audit.file.*Is a directory"):
        start_logging("info", AuditFile(tmp_path))
