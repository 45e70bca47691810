"""``--explain`` at the end of a capture (docs/findings.rst)."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from demo.daemons import environment
from pcapd.analysis.report import as_dict
from pcapd.ctl.display.explain import explain
from pcapd.wire import End, EndReason
from tests.kit.doubles.stream_api import Client, StreamApi
from tests.kit.hosts.scripted import TOKEN, ended, play, started
from tests.kit.segments import ACK, CLIENT, RST, SERVER, SYN, ipv4, tcp


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("explain-api", dns=("localhost",), ips=(LOCAL,))


def healthy(client: Client) -> None:
    started(client)
    ended(client, 3)


def refused(client: Client) -> None:
    """A connection that a server refuses, and some time for it to be counted."""
    client.greet()
    client.open(link_type=101)
    syn, rst = tcp((5000, 80), 99, 0, SYN), tcp((80, 5000), 0, 100, RST | ACK)
    seconds, us = divmod(time.time_ns() // 1000, 1_000_000)
    for data in (ipv4(CLIENT, SERVER, 6, syn, 1), ipv4(SERVER, CLIENT, 6, rst, 2)):
        client.packets(struct.pack("<4I", seconds, us, len(data), len(data)) + data)
    for _ in range(50):
        client.stats(2)
        time.sleep(0.1)
    ended(client, 2)


def nothing(client: Client) -> None:
    client.greet()
    client.say(client.callee.end(End(EndReason.FAILED, "no agent", ())))
    client.close()
    client.wait()


def test_it_says_what_went_wrong(credentials: Credentials, tmp_path: Path) -> None:
    """--explain prints its findings after the file is whole, as text, and as an event for scripts."""
    done = play(healthy, credentials, tmp_path, "--explain", json_lines=False)
    assert done.status == 0 and "nothing to report" in done.stderr
    done = play(healthy, credentials, tmp_path, "--explain", "--force")
    explained = done.events[-2]
    assert done.end["packets"] == 3
    assert (explained["event"], explained["version"], explained["findings"]) == ("explanation", 1, [])


def test_findings_are_counted_while_it_runs(credentials: Credentials, tmp_path: Path) -> None:
    """The events for scripts have the number of findings so far, long before the end."""
    done = play(refused, credentials, tmp_path, "--explain")
    counts = [event["findings"]["errors"] for event in done.events if event["event"] == "progress"]
    assert counts[0] == 0 and counts[-1] == 1 and sorted(counts) == counts


def test_it_does_without_a_file(credentials: Credentials, tmp_path: Path) -> None:
    """--explain also works if the packets are written to standard output, and explains on standard error."""
    with StreamApi(credentials, healthy) as api:
        argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "--api", api.url]
        argv += ["--ca", str(credentials.ca), "--explain", "--output", "-"]
        env = {**environment(), "PCAP_TOKEN": TOKEN}
        done = subprocess.run(argv, env=env, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0 and b"3 packets in" in done.stderr and b"nothing to report" in done.stderr
    assert done.stdout[:4] == b"\n\r\r\n"


def test_the_report_has_it(credentials: Credentials, tmp_path: Path) -> None:
    """The report contains the same object as ``pcapctl explain --json`` prints."""
    report = tmp_path / "report.json"
    done = play(healthy, credentials, tmp_path, "--explain", "--report", str(report))
    written = json.loads(report.read_text())
    assert done.status == 0 and written["explain"] == as_dict(explain([str(done.path)]))
    assert written["explain_skipped"] == 0


def test_the_report_of_other_captures_has_none(credentials: Credentials, tmp_path: Path) -> None:
    """Without --explain, the report has no key for it; if nothing was captured, there is no object."""
    report = tmp_path / "report.json"
    play(healthy, credentials, tmp_path, "--report", str(report))
    assert "explain" not in json.loads(report.read_text())
    play(nothing, credentials, tmp_path, "--explain", "--report", str(report), "--force")
    assert json.loads(report.read_text())["explain"] is None
