"""Memory is bounded in every process when nobody reads, and nothing is lost uncounted meanwhile."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from demo.processes import usage
from tests.kit.hosts.chain import MIB, Chain, assert_accounted, read_pcapng
from tests.kit.lab.generator import FILTER, Generator

SECONDS = 6.0

#: bytes more than before the capture.  Agent: two rings of 16 MiB, a send buffer, a read.
#: Api: a few send buffers.  pcapctl: its code, the hold-back, a turn's bytes.
BOUNDS = {"agent": (2 * 16 + 32) * MIB, "api": 64 * MIB, "pcapctl": (64 + 3 * 64) * MIB}


@pytest.mark.parametrize("size", [100, 1400])
@pytest.mark.long(but=("1400",))
def test_a_stuck_reader_fills_no_memory(chain: Chain, tmp_path: Path, size: int) -> None:
    """Under a flood with stdout never read every process stays under its bound, and every packet is accounted for."""
    read_fd, write_fd = os.pipe()
    # The daemons have served other tests, and keep what those made them ask the kernel for.
    before = {"agent": usage(chain.agent.pid).rss, "api": usage(chain.api.pid).rss, "pcapctl": 0}
    peaks = dict.fromkeys(BOUNDS, 0)
    with Generator(chain.link, size=size) as generator:
        client = chain.begin("web-0", "web-1", "--filter", FILTER, "--output", "-", stdout=write_fd)
        os.close(write_fd)
        pids = {"agent": chain.agent.pid, "api": chain.api.pid, "pcapctl": client.process.pid}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for name, pid in pids.items():
                peaks[name] = max(peaks[name], usage(pid).rss)
            time.sleep(0.1)
        sent = generator.stop().sent
    print(f"\n{size} B, {sent} packets:", {name: f"{peak / MIB:.0f} MiB" for name, peak in peaks.items()})

    path = tmp_path / "read.pcapng"

    def read() -> None:
        with path.open("wb") as file:
            while data := os.read(read_fd, MIB):
                file.write(data)

    reader = threading.Thread(target=read)
    reader.start()
    result = client.stop()
    reader.join()
    os.close(read_fd)
    for name, bound in BOUNDS.items():
        more = peaks[name] - before[name]
        assert more < bound, f"{name}: {more / MIB:.0f} MiB"
    assert_accounted(result)
    assert result.status == 3, "a flood of seconds must not fit the buffers"
    file = read_pcapng(path)
    for name, source in result.sources.items():
        assert len(file.of(name)) == source["written"] < sent


@pytest.mark.long
def test_memory_comes_back_after_captures(chain: Chain) -> None:
    """Twenty captures one after another leave the daemons as they were: descriptors, threads, memory."""
    chain.capture("web-0", "web-1", "--duration", "100ms")
    pids = {"agent": chain.agent.pid, "api": chain.api.pid}
    before = {name: usage(pid) for name, pid in pids.items()}
    for _ in range(8):
        clients = [chain.begin("web-0", "web-1", "--duration", "100ms") for _ in range(3)]
        assert [client.wait().status for client in clients] == [0, 0, 0]
    time.sleep(0.3)
    for name, pid in pids.items():
        after = usage(pid)
        assert after.fds <= before[name].fds, name
        assert after.threads <= before[name].threads, name
        assert after.rss <= before[name].rss + 24 * MIB, name
