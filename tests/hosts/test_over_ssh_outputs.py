"""``pcapctl ssh`` and where its packets go: files, pipes, disks, readers, lines; real ssh servers and tcpdump."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from demo.namespaces import run
from demo.processes import wait_until
from tests.kit.hosts.chain import SaveFile, assert_accounted, ordered, read_pcapng
from tests.kit.hosts.overssh import begin, capture
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import require, tshark_fields
from tests.kit.lab.sshhosts import Desk

BOTH = ("web-0", "web-1", "--device", "eth9", "--filter", FILTER)
NAMES = ("web-0:eth9", "web-1:eth9")


@pytest.fixture(autouse=True)
def nothing_is_left(desk: Desk) -> Iterator[None]:
    """However a capture ends, nothing runs on the hosts soon afterwards."""
    yield
    wait_until(lambda: not any(host.processes() for host in desk.hosts.values()), "nothing runs", timeout=10)


# --- ends that come from here ------------------------------------------------------


def test_a_full_disk(desk: Desk, tmp_path: Path) -> None:
    """The capture stops with 1 and says why; the file so far is whole."""
    run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path)])
    try:
        path = tmp_path / "full.pcapng"
        with Generator(desk.wire, size=1000, rate=2000):
            done = desk.pcapctl(*BOTH, "--output", str(path))
        assert done.returncode == 1
        assert "No space left" in done.stderr and "is valid" in done.stderr and "Traceback" not in done.stderr
        file = read_pcapng(path)
        assert len(file.packets) > 100 and file.rest == 0
    finally:
        run(["umount", str(tmp_path)])


def test_the_reader_of_stdout_leaves(desk: Desk) -> None:
    """A reader that has enough ends the capture in good order: status 0, nothing lost."""
    with Generator(desk.wire, rate=2000):
        process = desk.start(*BOTH, "--output", "-")
        assert process.stdout is not None and process.stderr is not None
        subprocess.run(
            ["head", "-c", "1000"], stdin=process.stdout, check=True, capture_output=True, timeout=30
        )
        process.stdout.close()
        words = process.stderr.read()
        assert process.wait(30) == 0, words
    assert "stopped: the reader has closed the pipe" in words
    assert "nothing was lost" in words and "Traceback" not in words


def test_ctrl_c_twice(desk: Desk) -> None:
    """A second Ctrl-C leaves at once, with a whole file."""
    with Generator(desk.wire, rate=5000):
        client = begin(desk, *BOTH)
        client.wait_for(*NAMES, packets=100)
        client.signal()
        wait_until(lambda: any(event["event"] == "stopping" for event in client.events()), "it stops")
        before = time.monotonic()
        client.signal()
        result = client.wait(10)
    assert result.status == 1 and time.monotonic() - before < 1.0
    assert result.report["reason"] == "interrupted twice"
    assert result.file.rest == 0 and len(result.file.packets) > 100


@pytest.mark.parametrize(
    "limit", [("--count", "100"), ("--max-bytes", "50kB"), ("--duration", "2s")], ids=" ".join
)
@pytest.mark.long(but=("count",))
def test_limits(desk: Desk, limit: tuple[str, str]) -> None:
    """A limit ends the capture with status 0, and what came later is accounted for."""
    with Generator(desk.wire, rate=500):
        result = begin(desk, *BOTH, *limit).wait()
    assert result.status == 0, result.stderr
    file = result.file
    assert file.rest == 0 and ordered(file.times)
    if limit[0] == "--count":
        assert len(file.packets) == 100
    if limit[0] == "--max-bytes":
        # The closing counters come on top.
        assert 30_000 < result.path.stat().st_size <= 51_000
    assert all(result.sources[name]["exact"] for name in NAMES)


# --- kinds of outputs ----------------------------------------------------------------


def series(path: Path) -> list[SaveFile]:
    """The files of a series, in order."""
    return [read_pcapng(one) for one in sorted(path.parent.glob(f"{path.stem}_*.pcapng"))]


def test_rotation(desk: Desk) -> None:
    """Every packet is in one file of the series, and each file has both interfaces."""
    result = capture(desk, "web-0", "web-1", "--rotate-size", "10kB", packets=200)
    assert result.status == 0, result.stderr
    files = series(result.path)
    assert len(files) > 3
    for file in files:
        assert file.rest == 0 and {one.name for one in file.interfaces} == set(NAMES)
    for name in NAMES:
        assert [number for file in files for number in file.numbers(name)] == list(range(200))


def test_a_file_per_host(desk: Desk) -> None:
    """With --split-by, each host has a file of its own."""
    result = capture(desk, "web-0", "web-1", "--split-by", "instance")
    assert result.status == 0, result.stderr
    for name in NAMES:
        file = read_pcapng(result.path.with_name(f"{result.path.stem}_{name.partition(':')[0]}.pcapng"))
        assert [one.name for one in file.interfaces] == [name] and file.numbers(name) == list(range(20))


def test_packet_ids_and_explain(desk: Desk) -> None:
    """A packet that both hosts saw has one number; --explain says what was read; all in one capture."""
    require("tshark")
    result = capture(desk, "web-0", "web-1", "--packet-ids", "--explain")
    assert result.status == 0, result.stderr
    assert_accounted(result)
    rows = tshark_fields(result.path, ["frame.interface_name", "frame.packet_id"])
    ids = {name: sorted(number for one, number in rows if one == name) for name in NAMES}
    assert ids[NAMES[0]] == ids[NAMES[1]] and len(set(ids[NAMES[0]])) == 20
    assert "explanation" in result.report or any(event["event"] == "explanation" for event in result.events)


def test_lines(desk: Desk) -> None:
    """--print shows a line for each packet, with its host."""
    with Generator(desk.wire, rate=200):
        done = desk.pcapctl(*BOTH, "--print", "--count", "20")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 20 and all("web-0:eth9" in line or "web-1:eth9" in line for line in lines)


@pytest.mark.long
def test_serving(desk: Desk) -> None:
    """A reader over TCP gets packets of both hosts."""
    require("tshark")
    client = begin(desk, *BOTH, "--serve", "127.0.0.1:57012")
    client.wait_for(*NAMES)
    with Generator(desk.wire, rate=200):
        argv = desk.namespace.command("tshark", "-i", "TCP@127.0.0.1:57012", "-c", "20", "-T", "fields")
        done = subprocess.run(
            [*argv, "-e", "frame.interface_name"], capture_output=True, text=True, check=False, timeout=40
        )
        result = client.stop()
    assert result.status == 0, result.stderr
    assert set(done.stdout.split()) == set(NAMES), done.stderr
