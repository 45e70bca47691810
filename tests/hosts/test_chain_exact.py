"""Every packet is in the file or counted: under floods, with slow and stopped clients, and at the end."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from demo.processes import wait_until
from tests.kit.hosts.chain import Chain, Result, assert_accounted, ordered, read_pcapng, usage_of
from tests.kit.lab.generator import FILTER, Generator

BOTH = ("web-0", "web-1")
SOURCES = ("web-0:eth0", "web-1:eth0")


def assert_file_has_what_is_reported(result: Result) -> None:
    """The counters are not only consistent: as many packets are in the file."""
    file = result.file
    assert file.rest == 0
    for name, source in result.sources.items():
        assert len(file.of(name)) == source["written"]
        numbers = file.numbers(name)
        assert sorted(set(numbers)) == sorted(numbers), f"{name}: a packet is there twice"


@pytest.mark.long
def test_a_flood_into_tiny_rings_is_accounted_for(chain: Chain) -> None:
    """When rings overflow, received is written plus dropped for each source, and the exit status says so."""
    with Generator(chain.link, size=200):
        client = chain.begin("tiny-0", "tiny-1", "--filter", FILTER)
        client.wait_for("tiny-0:eth0", "tiny-1:eth0", packets=1)
        chain.second.signal(signal.SIGSTOP)  # however fast it is, it cannot keep up
        try:
            time.sleep(0.5)
        finally:
            chain.second.signal(signal.SIGCONT)
        result = client.stop()
    assert_accounted(result)
    assert_file_has_what_is_reported(result)
    assert sum(source["dropped_kernel"] for source in result.sources.values()) > 0, "no drops: no test"
    assert result.status == 3
    assert result.report["lost"] == sum(source["dropped_kernel"] for source in result.sources.values())
    assert ordered(result.file.times)
    for interface in result.file.interfaces:
        assert interface.dropped_os == result.sources[interface.name]["dropped_kernel"]


@pytest.mark.long
def test_a_stopped_client_loses_nothing_uncounted(chain: Chain) -> None:
    """pcapctl under SIGSTOP for ten seconds and continued: received is written plus dropped."""
    with Generator(chain.link, size=300, rate=20_000):
        client = chain.begin("tiny-0", "tiny-1", "--filter", FILTER)
        client.wait_for("tiny-0:eth0", "tiny-1:eth0", packets=1)
        client.signal(signal.SIGSTOP)
        time.sleep(10)
        client.signal(signal.SIGCONT)
        # It lives on: packets come again.
        shown = sum(client.packets().values())
        client.wait_for("tiny-0:eth0", "tiny-1:eth0", packets=shown // 2 + 20_000)
        result = client.stop()
    assert_accounted(result)
    assert_file_has_what_is_reported(result)
    assert result.status == 3, "ten seconds of 20,000 packets per second fit no buffer"
    assert all(source["late"] == 0 for source in result.sources.values())


@pytest.mark.long
def test_a_slow_reader_of_stdout_loses_nothing_uncounted(chain: Chain, tmp_path: Path) -> None:
    """A reader that takes 64 KiB every 50 ms: received is what it read plus what the kernels dropped."""
    read_fd, write_fd = os.pipe()
    path = tmp_path / "read.pcapng"
    hurry = threading.Event()

    def read() -> None:
        with path.open("wb") as file:
            while data := os.read(read_fd, 65536):
                file.write(data)
                hurry.wait(0.05)

    reader = threading.Thread(target=read)
    reader.start()
    with Generator(chain.link, size=1000, rate=30_000):
        client = chain.begin("tiny-0", "tiny-1", "--filter", FILTER, "--output", "-", stdout=write_fd)
        os.close(write_fd)
        client.wait_for("tiny-0:eth0", "tiny-1:eth0", packets=1)
        time.sleep(3)
        client.signal()
        hurry.set()
        result = client.wait()
    reader.join()
    os.close(read_fd)
    result.path = path
    assert_accounted(result)
    assert_file_has_what_is_reported(result)
    assert result.report["lost"] > 0, "no pressure: no test"
    assert result.status == 3


@pytest.mark.parametrize(
    ("order", "number", "size"),
    [("--order", signal.SIGINT, 120), ("--no-order", signal.SIGINT, 120), ("--order", signal.SIGTERM, 1400)],
    ids=["--order", "--no-order", "--order SIGTERM"],
)
@pytest.mark.long(but=("--order",))
def test_a_stop_right_after_the_last_packet_loses_none(
    chain: Chain, order: str, number: signal.Signals, size: int
) -> None:
    """Every packet that was sent before Ctrl-C or SIGTERM is in the file, by its number, of both hosts."""
    client = chain.begin(*BOTH, "--filter", FILTER, order)
    client.wait_for(*SOURCES)
    rate, count = (20_000, 20_000) if size == 120 else (5_000, 3_000)
    with Generator(chain.link, size=size, rate=rate, count=count) as generator:
        sent = generator.wait().sent
    client.signal(number)
    result = client.wait()
    assert result.status == 0, result.stderr
    assert result.report["reason"] == "interrupted"
    for name in SOURCES:
        assert result.file.numbers(name) == list(range(sent))


def test_the_end_of_the_duration_loses_none(chain: Chain) -> None:
    """At the end of --duration under traffic no packet is missing up to the stop."""
    with Generator(chain.link, size=120, rate=20_000):
        result = chain.capture(*BOTH, "--filter", FILTER, "--duration", "2s")
    assert result.status == 0, result.stderr
    assert_accounted(result)
    for name in SOURCES:
        numbers = result.file.numbers(name)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers, name


@pytest.mark.long
def test_a_short_burst_before_the_end_of_the_duration(chain: Chain) -> None:
    """Packets that came just before --duration ended the capture are all there."""
    client = chain.begin(*BOTH, "--filter", FILTER, "--duration", "4s")
    client.wait_for(*SOURCES)
    with Generator(chain.link, rate=50_000, count=2_000) as generator:
        sent = generator.wait().sent
    result = client.wait()
    assert result.status == 0, result.stderr
    for name in SOURCES:
        assert result.file.numbers(name) == list(range(sent))


@pytest.mark.parametrize("seconds", [0.05, 0.4, 1.1])
@pytest.mark.long(but=("0.4",))
def test_kill_9_leaves_whole_blocks(chain: Chain, seconds: float) -> None:
    """pcapctl killed at any moment leaves whole blocks and at most one cut one; its capture ends by itself."""
    wait_until(chain.settled, "earlier captures are gone", timeout=20)
    pids = {"agent": chain.agent.pid, "api": chain.api.pid}
    before = usage_of(pids)
    with Generator(chain.link, size=1000, rate=20_000):
        client = chain.begin(*BOTH, "--filter", FILTER)
        wait_until(lambda: client.path.exists() and client.path.stat().st_size > 0, "the file", timeout=20)
        assert any(chain.promiscuity().values())
        time.sleep(seconds)
        client.process.kill()
        client.process.wait()
        file = read_pcapng(client.path)
        assert len(file.interfaces) >= 1
        if seconds > 0.3:
            assert file.packets
        assert ordered(file.times)
        wait_until(chain.settled, "the agent's capture ended by itself", timeout=20)

    def back() -> bool:
        now = usage_of(pids)
        return all(now[name][0] <= before[name][0] and now[name][1] <= before[name][1] for name in pids)

    wait_until(back, f"descriptors and threads are back to {before}", timeout=20)
