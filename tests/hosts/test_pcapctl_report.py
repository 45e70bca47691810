"""``--report FILE``: JSON beside the file, however the capture went (docs/report.rst)."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from demo.daemons import environment
from demo.processes import ROOT, wait_until
from pcapd.wire import Error, Notice, NoticeType
from tests.kit.doubles.stream_api import Client, StreamApi
from tests.kit.hosts.scripted import TOKEN, ended, pcapctl, play, started


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("report-api", dns=("localhost",), ips=(LOCAL,))


def good(client: Client) -> None:
    """Three packets, a notice, and a proper end."""
    started(client)
    client.say(client.callee.notice(Notice(NoticeType.CONGESTED, "slow \x1b[2J", "web-0")))
    ended(client, 3)


def read(path: Path) -> dict[str, Any]:
    """The report; nobody else may read it."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report: dict[str, Any] = json.loads(path.read_text())
    assert report["format"] == 1 and report["ended"].endswith("+00:00")
    assert TOKEN not in path.read_text()
    assert not list(path.parent.glob(f".{path.name}*"))
    return report


def documented() -> set[str]:
    """Every name that docs/report.rst has in code type."""
    return set(re.findall(r"``(\w+)``", (ROOT / "docs" / "report.rst").read_text()))


def test_a_good_capture(credentials: Credentials, tmp_path: Path) -> None:
    """The report file holds the end event, the request and the notices, and every key is documented."""
    path = tmp_path / "report.json"
    done = play(
        good, credentials, tmp_path, "--report", str(path), "--filter", "udp", "--count", "9", "--duration", "1m"
    )  # fmt: skip
    assert done.status == 0, done.stderr
    report = read(path)
    end = {key: value for key, value in done.end.items() if key != "event"}
    assert end == {key: report[key] for key in end}
    assert report["packets"] == 3 and report["reason"] == "duration"
    assert report["asked"] == {
        "targets": ["web-0"],
        "filter": "udp",
        "interfaces": [],
        "snaplen": 262144,
        "headers_only": False,
        "packets": 9,
        "bytes": None,
        "seconds": 60.0,
    }
    assert report["notices"] == [{"type": "CONGESTED", "origin": "web-0", "message": "slow \x1b[2J"}]
    keys = {*report, *report["asked"], *report["sources"][0], *report["notices"][0]}
    assert keys - documented() == set()


def test_a_refusal(credentials: Credentials, tmp_path: Path) -> None:
    """The report of a refused capture states the failure."""

    def script(client: Client) -> None:
        client.greet()
        client.say(client.callee.end(Error("bad_filter", "syntax error", "see pcap-filter(7)")))
        client.close()
        client.wait()

    path = tmp_path / "report.json"
    done = play(script, credentials, tmp_path, "--report", str(path))
    report = read(path)
    assert done.status == report["exit_status"] == 1
    assert report["outcome"] == "failed" and report["file"] is None and report["sources"] == []
    assert report["error"] == "syntax error (see pcap-filter(7))"


def test_a_capture_that_breaks(credentials: Credentials, tmp_path: Path) -> None:
    """The report of a capture that breaks states what the file holds."""

    def script(client: Client) -> None:
        started(client)
        client.close()
        client.wait()

    path = tmp_path / "report.json"
    done = play(script, credentials, tmp_path, "--report", str(path))
    report = read(path)
    assert done.status == report["exit_status"] == 1 and report["packets"] == 3
    assert report["file"] == str(done.path)


def test_nobody_listens(authority: Authority, tmp_path: Path) -> None:
    """A capture that could not begin has its report, too."""
    with StreamApi(None, lambda client: None) as api:
        pass
    path = tmp_path / "report.json"
    done = pcapctl(api.url, tmp_path, authority.certificate_path, "--report", str(path))
    report = read(path)
    assert done.status == report["exit_status"] == 1 and "Connection refused" in report["error"]
    assert {*report, *report["asked"]} - documented() == set()


def test_a_certificate_that_is_not_good(tmp_path: Path, credentials: Credentials) -> None:
    """The report about a bad certificate has the error and no token."""
    path = tmp_path / "report.json"
    with StreamApi(credentials, good) as api:
        done = pcapctl(api.url, tmp_path, None, "--report", str(path))
    assert done.status == 1
    assert "is not accepted" in read(path)["error"]


def test_what_exists_stays(credentials: Credentials, tmp_path: Path) -> None:
    """An existing report file is refused before the capture starts; --force overwrites it."""
    path = tmp_path / "report.json"
    path.write_text("precious")
    asked: list[Client] = []

    def script(client: Client) -> None:
        asked.append(client)
        good(client)

    done = play(script, credentials, tmp_path, "--report", str(path))
    assert done.status == 1 and "exists (use --force" in done.end["error"]
    assert path.read_text() == "precious" and not asked and not done.path.exists()
    done = play(script, credentials, tmp_path, "--report", str(path), "--force")
    assert done.status == 0 and read(path)["packets"] == 3


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_named_pipe_stays_one(credentials: Credentials, tmp_path: Path, force: tuple[str, ...]) -> None:
    """The report goes into what is no file, as into a device; no file takes its place."""
    path = tmp_path / "report.pipe"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # both ends: nobody has to wait
    try:
        done = play(good, credentials, tmp_path, "--report", str(path), *force)
        assert done.status == 0, done.stderr
        assert json.loads(os.read(pipe, 65536))["packets"] == 3
    finally:
        os.close(pipe)
    assert path.is_fifo()


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("out.pcapng", 2, "cannot be the same file"),
        ("missing/report.json", 1, "does not exist"),
        (".", 1, "is a directory"),
    ],
)
def test_no_place_for_it(
    name: str, status: int, words: str, credentials: Credentials, tmp_path: Path
) -> None:
    """A report file that cannot be written is refused at once."""
    done = play(good, credentials, tmp_path, "--report", str(tmp_path / name), "--force")
    assert done.status == status and words in done.end["error"]
    assert list(tmp_path.iterdir()) == []


def test_very_many_notices(credentials: Credentials, tmp_path: Path) -> None:
    """The report keeps the first thousand notices, and counts the others."""

    def script(client: Client) -> None:
        started(client)
        for number in range(1500):
            words = f"notice {number:4}" + "x" * 2000
            client.say(client.callee.notice(Notice(NoticeType.UNKNOWN, words, "web-0")))
        ended(client, 3)

    path = tmp_path / "report.json"
    play(script, credentials, tmp_path, "--report", str(path))
    report = read(path)
    messages = [notice["message"] for notice in report["notices"]]
    assert [message[:11] for message in messages] == [f"notice {number:4}" for number in range(1000)]
    assert {len(message) for message in messages} == {1000}
    assert report["notices_omitted"] == 500


def test_its_place_vanishes_meanwhile(credentials: Credentials, tmp_path: Path) -> None:
    """A report whose place vanishes gives status 1 with a good file and one end event."""
    place = tmp_path / "place"
    place.mkdir()

    def script(client: Client) -> None:
        started(client)
        place.rmdir()
        ended(client, 3)

    done = play(script, credentials, tmp_path, "--report", str(place / "report.json"))
    assert done.status == done.end["exit_status"] == 1
    assert done.end["outcome"] == "complete" and len(done.file.packets) == 3
    (warning,) = [event for event in done.events if event["event"] == "warning"]
    assert "cannot write the report" in warning["message"]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(times: int, credentials: Credentials, tmp_path: Path) -> None:
    """Ctrl-C, once or twice, leaves a report file."""
    up = threading.Event()

    def script(client: Client) -> None:
        started(client)
        up.set()
        if times == 1:
            assert next(client.heard()) is not None  # STOP
            ended(client, 3)
        else:
            client.wait()

    path = tmp_path / "report.json"
    with StreamApi(credentials, script) as api:
        argv = [
            sys.executable,
            "-m",
            "pcapd.ctl",
            "hosts",
            "web-0",
            "--api",
            api.url,
            "--ca",
            str(credentials.ca),
        ]
        process = subprocess.Popen(
            [*argv, "--output", str(tmp_path / "x.pcapng"), "--report", str(path)],
            env={**environment(), "PCAP_TOKEN": TOKEN},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert up.wait(30)
        wait_until((tmp_path / "x.pcapng").exists, "pcapctl writes")
        process.send_signal(signal.SIGINT)
        if times == 2:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert not api.failures
    report = read(path)
    assert process.returncode == report["exit_status"] == times - 1, errors
    assert report["reason"] == ("interrupted" if times == 1 else "interrupted twice")
