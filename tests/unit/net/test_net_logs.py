"""The log: one JSON object per line, whatever is logged."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel

from pcapd.net.logs import JsonLines
from tests.lab.processes import ROOT


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
    """Both the sentence and its values can be searched for."""
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


def test_a_failure_has_its_traceback(log: Logger, output: io.StringIO) -> None:
    """An unexpected exception is logged with where it came from."""
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.failure("it failed")
    (line,) = lines(output)
    assert line["level"] == "critical" and "RuntimeError: broken" in line["failure"]


def test_a_value_that_json_does_not_know_is_written_as_text(log: Logger, output: io.StringIO) -> None:
    """No value makes a line disappear."""
    log.info("look", thing=LogLevel.info, where={1, 2})
    assert lines(output)[0]["where"] == "{1, 2}"


@pytest.mark.parametrize("level", ["info", "warn", "error"])
def test_the_audit_log_is_written_whatever_the_level(level: str) -> None:
    """Who captured what is kept also where the daemon is told to be quiet."""
    program = f"""
from pcapd.api import audit
from pcapd.net.logs import start_logging
from twisted.logger import Logger
start_logging({level!r}, role="api", id="api/0")
Logger(namespace="pcapd.api.api").info("chatter")
audit.record("capture_started", user="alice")
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
