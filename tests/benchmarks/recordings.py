"""Recordings: their cost beside that of a capture, the speed of a fetch, and many of them beside many captures."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from demo.processes import usage, wait_until
from tests.benchmarks.clients import Capture, Download, excess
from tests.kit.hosts.recordings import RecordingLab
from tests.kit.lab.generator import FILTER, Generator

__all__ = ["beside", "cost", "fetch", "week"]

_MIB = 2**20
_TARGET = "web-1"
_ROUNDS = 10  # of requests whose median is printed
_SETTLE = 0.5  # seconds until what was sent has arrived
_LOOK = 0.02  # seconds between looks at a client's memory
#: A segment that is full has at least so many bytes (`SEGMENT_BYTES`).
_FULL = 8 * _MIB
#: A segment every five minutes for a week.
_WEEK_SEGMENTS, _APART_US = 2_000, 302_000_000
_MICROS = 1_000_000


@contextlib.contextmanager
def _lab(at_once: int = 4) -> Iterator[RecordingLab]:
    """A lab on a disk, because a store in memory would hide what writing costs.

    Args:
        at_once: Captures, and recordings, that one user may have.
    """
    limits = {"concurrent_captures": 2 * at_once, "per_user": at_once}
    with tempfile.TemporaryDirectory() as directory:
        lab = RecordingLab(
            Path(directory),
            store={"per_user": at_once},
            api={"limits": limits},
            agent={"capture": {"max_captures": 2 * at_once, "ring_bytes": "16MB"}},
            limits={},
        )
        with lab:
            yield lab


# --- what it costs ---------------------------------------------------------------


def cost(size: int, rate: int, seconds: float, *, runs: int) -> dict[str, Any]:
    """The api's CPU time for a recording, and for the same capture to a client, in turn.

    Args:
        size: Bytes of a packet.
        rate: Packets per second.
        seconds: For so long.
        runs: Of each.
    """
    with _lab() as lab:
        pairs = [
            (_captured(lab, size, rate, seconds), _recorded(lab, size, rate, seconds)) for _ in range(runs)
        ]
        rss = lab.api.usage().peak_rss / _MIB
    captures, recordings = zip(*pairs)
    ratios = [recording.cpu / capture.cpu for capture, recording in pairs]
    ratio = statistics.median(ratios)
    capture_ns, recording_ns = (statistics.median(one.cpu for one in some) for some in (captures, recordings))
    lost = {"capture": sum(one.lost for one in captures), "recording": sum(one.lost for one in recordings)}
    return {
        "what": "recording",
        "size": size,
        "rate": rate,
        "ns_per_packet": {"capture": capture_ns, "recording": recording_ns},
        "ratios": ratios,
        "lost": lost,
        "peak_rss_mib": rss,
        "text": (
            f"recording: {size} B, {rate / 1000:.0f} kpps: the api takes {recording_ns:.0f} ns per packet for "
            f"a recording, {capture_ns:.0f} for a capture to pcapctl: {ratio:.2f} times as much "
            f"({min(ratios):.2f} to {max(ratios):.2f} in {runs} runs); lost {lost['recording']} and "
            f"{lost['capture']}; api's peak {rss:.0f} MiB"
        ),
    }


@dataclass(frozen=True)
class _Load:
    """What a load cost.

    Attributes:
        cpu: Nanoseconds of the api per packet that was delivered.
        lost: Packets that were not delivered.
    """

    cpu: float
    lost: int


def _load(lab: RecordingLab, size: int, rate: int, seconds: float, end: Callable[[], int]) -> _Load:
    """Send packets, and end what receives them.

    Args:
        end: Ends it, and returns how many packets it has.
    """
    before = lab.api.usage().cpu
    with Generator(lab.link, size=size, rate=rate, seconds=seconds) as generator:
        sent = generator.wait().sent
    time.sleep(_SETTLE)
    there = end()
    return _Load(1e9 * (lab.api.usage().cpu - before) / max(1, there), sent - there)


def _captured(lab: RecordingLab, size: int, rate: int, seconds: float) -> _Load:
    name = f"capture-{time.monotonic_ns()}"
    capture = Capture(lab, name, _TARGET, "--filter", FILTER, "--output", "/dev/null")
    capture.wait_for()

    def end() -> int:
        return int(sum(source["written"] for source in capture.stop()["sources"]))

    return _load(lab, size, rate, seconds, end)


def _recorded(lab: RecordingLab, size: int, rate: int, seconds: float) -> _Load:
    id = _record(lab)

    def end() -> int:
        lab.ask("POST", f"/v1/recordings/{id}/stop", {})
        wait_until(lambda: _row(lab, id)["ended_us"] is not None, "it ends", timeout=30)
        return int(_row(lab, id)["packets"])

    load = _load(lab, size, rate, seconds, end)
    lab.ask("DELETE", f"/v1/recordings/{id}")
    return load


def _record(lab: RecordingLab) -> str:
    """A recording that has begun."""
    id = lab.record(_TARGET)
    lab.await_state(id, "recording")
    return id


def _row(lab: RecordingLab, id: str) -> sqlite3.Row:
    """What the index has of a recording; asking the api would cost what is measured."""
    with contextlib.closing(sqlite3.connect(f"file:{lab.state}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        found: sqlite3.Row = database.execute("SELECT * FROM recordings WHERE id = ?", [id]).fetchone()
    return found


def _known(lab: RecordingLab, id: str) -> int:
    """Packets that are stored or counted as dropped."""
    row = _row(lab, id)
    return int(row["packets"] + row["dropped"])


# --- fetch -----------------------------------------------------------------------


def fetch(megabytes: int, *, runs: int) -> dict[str, Any]:
    """How fast pcapctl and curl fetch a recording of packets of 400 bytes from the api's disk.

    Args:
        megabytes: Of the recording.
        runs: Of each.
    """
    with _lab() as lab:
        id = _filled(lab, megabytes * 1_000_000 // _FULL)
        output = lab.directory / "fetched.pcapng"
        options = ("--output", str(output), "--force", "--quiet")
        url = f"{lab.url}/v1/recordings/{id}/capture"
        commands = {
            "pcapctl": lab.client_command("recording", "fetch", id, *options),
            "curl": _curl(lab, url, "--output", str(output)),
        }
        found = {
            name: [_fetched(lab, command, output) for _ in range(runs)] for name, command in commands.items()
        }
    rows = {
        name: {key: statistics.median(one[key] for one in many) for key in many[0]}
        for name, many in found.items()
    }
    text = "; ".join(
        f"{name} {row['mb_per_s']:.0f} MB/s ({row['client_mb_per_cpu_s']:.0f} MB per second of its CPU time, "
        f"{row['api_mb_per_cpu_s']:.0f} of the api's), peak MiB: {row['client_rss_mib']:.0f}, "
        f"api {row['api_rss_mib']:.0f}"
        for name, row in rows.items()
    )
    return {"what": "fetch", "megabytes": megabytes, **rows, "text": f"fetch of {megabytes} MB: {text}"}


def _curl(lab: RecordingLab, url: str, *options: str) -> list[str]:
    token = f"Authorization: bearer {lab.token}"
    return [
        *("curl", "--silent", "--fail", "--cacert", str(lab.authority.certificate_path)),
        *("--header", token, *options, url),
    ]


def _fetched(lab: RecordingLab, command: list[str], output: Path) -> dict[str, float]:
    output.unlink(missing_ok=True)
    Path(f"/proc/{lab.api.pid}/clear_refs").write_text("5")  # the peak begins anew
    before, began = lab.api.usage().cpu, time.monotonic()
    process = subprocess.Popen(command, env=lab.client_environment(), cwd=lab.directory)
    peak, ended = 0, 0
    while not ended:  # `ru_maxrss` has that of this process, from which it was forked
        with contextlib.suppress(OSError, KeyError):  # it has ended meanwhile
            peak = max(peak, usage(process.pid).peak_rss)
        time.sleep(_LOOK)
        ended, status, resources = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, api = time.monotonic() - began, lab.api.usage()
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}"
    megabytes = output.stat().st_size / 1e6
    return {
        "mb_per_s": megabytes / seconds,
        "client_mb_per_cpu_s": megabytes / (resources.ru_utime + resources.ru_stime),
        "api_mb_per_cpu_s": megabytes / max(0.01, api.cpu - before),
        "client_rss_mib": peak / _MIB,
        "api_rss_mib": api.peak_rss / _MIB,
    }


def _filled(lab: RecordingLab, segments: int, *, apart_us: int = 0) -> str:
    """A recording that has ended, of so many full segments: copies of one that was recorded.

    Args:
        apart_us: Microseconds between two segments, for the index; then they are links to one file.
    """
    id = _record(lab)
    with Generator(lab.link, size=400, rate=50_000, seconds=1.5) as generator:
        sent = generator.wait().sent
    wait_until(lambda: _known(lab, id) >= sent, "everything is stored", timeout=30)
    lab.stop(id)
    with contextlib.closing(sqlite3.connect(lab.state, timeout=10)) as database, database:
        database.row_factory = sqlite3.Row
        rows = database.execute("SELECT * FROM segments WHERE recording = ? AND size >= ?", [id, _FULL])
        first = dict(rows.fetchone())
        copied = lab.store / id / "0001" / f"{first['number']:08}.pcapng"
        database.execute("DELETE FROM segments WHERE recording = ? AND number > ?", [id, first["number"]])
        for later in copied.parent.iterdir():
            if later.name > copied.name:
                later.unlink()
        place = shutil.copyfile if not apart_us else os.link
        for number in range(1, segments):
            times = {name: first[name] + number * apart_us for name in ("first_us", "last_us")}
            row = {**first, **times, "number": first["number"] + number}
            place(copied, copied.with_name(f"{row['number']:08}.pcapng"))
            names = ", ".join(row)
            marks = ", ".join(f":{name}" for name in row)
            database.execute(f"INSERT OR REPLACE INTO segments ({names}) VALUES ({marks})", row)
        sums = "SELECT {} FROM segments WHERE recording = :id"
        database.execute(
            f"UPDATE recordings SET packets = ({sums.format('sum(packets)')}), "
            f"bytes = ({sums.format('sum(size)')}), last_us = ({sums.format('max(last_us)')}) WHERE id = :id",
            {"id": id},
        )
    return id


# --- a week ------------------------------------------------------------------------


def week(*, runs: int = _ROUNDS) -> dict[str, Any]:
    """Milliseconds until the first byte with a ring of 2,000 segments: of the list, and of what is fetched."""
    with _lab() as lab:
        id = _filled(lab, _WEEK_SEGMENTS, apart_us=_APART_US)
        last_us = lab.show(id)["last_us"]
        page = f"/v1/recordings/{id}/capture"
        paths = {
            "list": "/v1/recordings",
            "show": f"/v1/recordings/{id}",
            "all": page,
            "an hour": f"{page}?from={_time(last_us - 3600 * _MICROS)}",
            "a day of it": f"{page}?from={_time(last_us - 86_400 * _MICROS)}",
        }
        took, cpu = {}, {}
        for name, path in paths.items():
            before = lab.api.usage().cpu
            took[name] = [_first_byte(lab, path) for _ in range(runs)]
            cpu[name] = 1000 * (lab.api.usage().cpu - before) / runs
    medians = {name: statistics.median(many) for name, many in took.items()}
    shown = ", ".join(f"{name} {medians[name]:.0f} ({cpu[name]:.0f})" for name in took)
    return {
        "what": "week",
        "segments": _WEEK_SEGMENTS,
        "first_byte_ms": medians,
        "api_cpu_ms": cpu,
        "text": f"a ring of {_WEEK_SEGMENTS} segments: ms to the first byte, median, "
        f"and of the api's CPU time: {shown}",
    }


def _time(us: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(us // _MICROS)) + f".{us % _MICROS:06}Z"


def _first_byte(lab: RecordingLab, path: str) -> float:
    """Milliseconds, with the connection's own."""
    began = time.monotonic()
    connection, answer = lab.send("GET", path)
    with contextlib.closing(connection):
        assert answer.status == 200, answer.read(1000)
        assert answer.read(1)
        return 1000 * (time.monotonic() - began)


# --- many --------------------------------------------------------------------------


def beside(count: int, rate: int, seconds: float) -> dict[str, Any]:
    """So many recordings beside so many live captures, all of the same packets: each must get them all.

    Args:
        count: Of each.
        rate: Packets per second, of 400 bytes, that each of them gets.
        seconds: For so long.
    """
    with _lab(count) as lab, contextlib.ExitStack() as running:
        # The clients are on this machine too: mostly curl, which leaves more of it to the daemons.
        options = ("--filter", FILTER, "--output", "/dev/null")
        captures = [Capture(lab, f"capture-{number}", _TARGET, *options) for number in range(count // 5)]
        downloads = [Download(lab, f"download-{number}") for number in range(count - len(captures))]
        for download in downloads:
            running.callback(download.leave)
        ids = [_record(lab) for _ in range(count)]
        for capture in captures:
            capture.wait_for()
        wait_until(lambda: _begun(lab) >= 2 * count, "everything has begun", timeout=60)
        pids = {"agent": lab.agent.pid, "api": lab.api.pid}
        before = {name: usage(pid).cpu for name, pid in pids.items()}
        with Generator(lab.link, size=400, rate=rate, seconds=seconds) as generator:
            sent = generator.wait()
        # What is missing then is the result.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(_known(lab, id) >= sent.sent for id in ids), "all is stored", timeout=30)
        for capture in captures:
            capture.wait_for(packets=sent.sent)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(one.packets(400) >= sent.sent for one in downloads), "all", timeout=10)
        cpu = {name: usage(pid).cpu - before[name] for name, pid in pids.items()}
        rss = lab.api.usage().peak_rss / _MIB
        accounts = [(int(_row(lab, id)["packets"]), _known(lab, id)) for id in ids]
        reports = [capture.stop() for capture in captures]
        there = [source["written"] for report in reports for source in report["sources"]]
        there += [download.packets(400) for download in downloads]
    return _many(count, sent.sent, sent.seconds, there, accounts, reports, {"cpu": cpu, "rss": rss})


def _many(
    count: int,
    sent: int,
    seconds: float,
    captured: list[int],
    accounts: list[tuple[int, int]],
    reports: list[dict[str, Any]],
    use: Mapping[str, Any],
) -> dict[str, Any]:
    lost = {
        "recordings": sum(sent - stored for stored, _ in accounts),
        "captures": sum(sent - one for one in captured),
    }
    unexplained = {
        "recordings": sum(abs(sent - known) for _, known in accounts),
        "captures": sum(excess(report) for report in reports),
    }
    cpu, rss = use["cpu"], use["rss"]
    return {
        "what": "recordings beside captures",
        "count": count,
        "sent": sent,
        "lost": lost,
        "unexplained": unexplained,
        "cpu_seconds": cpu,
        "api_peak_rss_mib": rss,
        "text": (
            f"{count} recordings beside {count} captures, {sent / seconds:.0f} packets/s each, for "
            f"{seconds:.0f} s: lost {lost['recordings']} and {lost['captures']} of {count * sent}, of which the "
            f"accounts lack {unexplained['recordings']} and {unexplained['captures']}; "
            f"CPU agent {cpu['agent']:.1f} s, api {cpu['api']:.1f} s; api's peak {rss:.0f} MiB"
        ),
    }


def _begun(lab: RecordingLab) -> int:
    return sum("capturing" in record["message"] for record in lab.agent.records())
