"""Packets are lost at each place on purpose, and as many are reported at that place and no other."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.daemons import environment
from demo.namespaces import Namespace
from demo.processes import run, wait_until
from tests.kit.hosts.chain import (
    Chain,
    Result,
    assert_accounted,
    assert_drops_told,
    assert_explained,
    read_pcapng,
)
from tests.kit.lab.generator import FILTER, PORT, Generator
from tests.kit.lab.readers import require, tshark_fields

NOWHERE = {"interface": 0, "kernel": 0, "agent": 0, "api": 0, "client": 0}


def send(chain: Chain, size: int, count: int, rate: float = 20_000) -> int:
    """Send packets from web-0 to web-1, and let the agents count them."""
    with Generator(chain.link, size=size, rate=rate, count=count) as generator:
        sent = generator.wait().sent
    time.sleep(0.5)  # the counters come ten times a second
    return sent


def send_by_socket(chain: Chain, size: int, count: int) -> None:
    """As `send`, through the IP stack of web-0: it does not mind that the other end refuses a packet."""
    code = (
        "import socket,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        f"for n in range({count}): s.sendto(b'x'*{size},('{chain.link.right.ipv4}',{PORT})); time.sleep(0.001)"
    )
    sender = chain.web0.popen(sys.executable, "-c", code)
    assert sender.wait(60) == 0
    time.sleep(0.5)


def told_by_tshark(result: Result, name: str) -> list[tuple[int, int]]:
    """Position among the source's packets and frame.drop_count, where there is one."""
    rows = tshark_fields(result.path, ["frame.interface_name", "frame.drop_count"])
    drops = [drops for interface, drops in rows if interface == name]
    return [(position, int(each)) for position, each in enumerate(drops) if each]


@pytest.mark.long
def test_at_the_kernel(chain: Chain) -> None:
    """A ring overflows while its agent is stopped: what was sent and is not in the file is the kernel's."""
    require("tshark")
    client = chain.begin("tiny-0", "tiny-1", "--filter", FILTER)
    client.wait_for("tiny-0:eth0", "tiny-1:eth0")
    with Generator(chain.link, size=1000, rate=20_000, count=80_000) as generator:
        client.wait_for("tiny-0:eth0", "tiny-1:eth0", packets=1)
        chain.second.signal(signal.SIGSTOP)
        try:
            time.sleep(0.6)
        finally:
            chain.second.signal(signal.SIGCONT)
        sent = generator.wait().sent
    time.sleep(0.5)
    sent += send(chain, 100, 10)
    result = client.stop()
    assert_accounted(result)
    assert result.status == 3
    for name, source in result.sources.items():
        missing = sent - len(result.file.of(name))
        assert missing > 0, "no drops: no test"
        assert source["drops"] == {**NOWHERE, "kernel": missing}
        assert source["lost_after_last"] == 0
        assert sum(drops for _, drops in told_by_tshark(result, name)) == missing
    assert result.report["lost"] == sum(source["drops"]["kernel"] for source in result.sources.values())


@pytest.mark.long
def test_at_the_interface(chain: Chain) -> None:
    """Losses of one interface are reported as its drops, at the first packet after them, and not for the other."""
    require("tshark")
    chain.web1.ip("link", "set", "eth0", "mtu", "600")
    try:
        with chain.third:
            client = chain.begin("web-0", "card-1", "--filter", FILTER)
            client.wait_for("web-0:eth0", "card-1:eth0")
            before, dropped, after = 150, 321, 50
            for size, count in ((200, before), (1000, dropped), (200, after)):
                send_by_socket(chain, size, count)
            result = client.stop()
    finally:
        chain.web1.ip("link", "set", "eth0", "mtu", "1500")
    assert_accounted(result)
    assert result.status == 3 and result.report["lost"] == dropped
    sender, receiver = result.sources["web-0:eth0"], result.sources["card-1:eth0"]
    assert sender["drops"] == NOWHERE and sender["written"] == before + dropped + after
    assert receiver["drops"] == {**NOWHERE, "interface": dropped}
    assert receiver["received"] == receiver["written"] == before + after
    assert told_by_tshark(result, "card-1:eth0") == [(before, dropped)]
    (counters,) = (each for each in result.file.interfaces if each.name == "card-1:eth0")
    assert (counters.received, counters.dropped_interface, counters.dropped_os) == (
        before + after,
        dropped,
        0,
    )


def test_what_captures_see_is_not_lost(chain: Chain) -> None:
    """The kernel drops a frame with two VLAN tags after the capture has seen it: it is not counted as lost."""
    frame = bytes.fromhex("ffffffffffff 000000000000 88a80064 8100000a 0800") + b"in two VLANs" + bytes(60)
    code = (
        "import socket\ns=socket.socket(socket.AF_PACKET,socket.SOCK_RAW)\n"
        f"s.bind(('eth0',0)); s.send(bytes.fromhex('{frame.hex()}'))"
    )
    client = chain.begin("web-1")
    client.wait_for("web-1:eth0")
    before = chain.web1.counters()["rx_dropped"]
    assert chain.web0.popen(sys.executable, "-c", code).wait(60) == 0
    wait_until(lambda: chain.web1.counters()["rx_dropped"] == before + 1, "the kernel has dropped it")
    client.wait_for("web-1:eth0", packets=1)
    result = client.stop()
    assert_accounted(result)
    assert any(b"in two VLANs" in packet.data for packet in result.file.packets)
    assert (result.status, result.report["lost"], result.sources["web-1:eth0"]["drops"]) == (0, 0, NOWHERE)


@pytest.mark.long
def test_in_the_agent(chain: Chain) -> None:
    """The namespace goes away while the client holds everything up: the agent says what the ring still held."""
    words = "left in the ring"
    said = chain.agent.log().count(words)
    gone = Namespace("pcapd-test-not-there")
    gone.create()
    try:
        gone.ip("link", "set", "lo", "up")
        client = chain.begin("gone", "--device", "lo", "--filter", "udp port 9997")
        client.wait_for("gone:lo")
        client.signal(signal.SIGSTOP)
        code = (
            "import socket,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
            "for n in range(6000):\n s.sendto(b'x'*8000,('127.0.0.1',9997))\n if n%20==0: time.sleep(0.01)"
        )
        sender = gone.popen(sys.executable, "-c", code)
        assert sender.wait(60) == 0
        gone.delete()
        wait_until(lambda: chain.agent.log().count(words) > said, "the agent gave it up", timeout=20)
        client.signal(signal.SIGCONT)
        result = client.wait()
    finally:
        gone.delete()
    assert result.status == 3, result.stderr
    (source,) = result.sources.values()
    assert_explained(source)
    assert_drops_told(result, "gone:lo")
    drops = source["drops"]
    assert source["received"] == 6000
    assert drops["agent"] == 6000 - len(result.file.packets) - drops["kernel"] > 0
    assert drops == {**NOWHERE, "agent": drops["agent"], "kernel": drops["kernel"]}
    assert result.report["lost"] == drops["agent"] + drops["kernel"]


LOSING_API = """
import os
from pcapd.api.http import stream
from pcapd.main import main
from pcapd.records import check

passed_on, turn = stream.StreamProtocol.packets, 0

def packets(self, number, records):
    global turn
    turn += 1
    if turn % 3:
        return passed_on(self, number, records)
    with open(os.environ["LOST_HERE"], "a") as file:
        print(check(records, 262144).packets, file=file)
    return False

stream.StreamProtocol.packets = packets
main()
"""


@pytest.fixture
def losing_api(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The api loses each third batch, and writes down how many packets these were."""
    import subprocess

    lost = tmp_path / "lost"
    chain.api.stop()
    popen = subprocess.Popen

    def launch(argv: list[str], **options: Any) -> Any:
        if argv[1:3] == ["-m", "pcapd"] and "api" in argv:
            argv = [argv[0], "-c", LOSING_API, *argv[3:]]
            options["env"] = environment(LOST_HERE=str(lost))
        return popen(argv, **options)

    with monkeypatch.context() as patch:
        patch.setattr("demo.daemons.subprocess.Popen", launch)
        chain.api.start()
    yield lost
    chain.api.stop()
    chain.api.start()


def test_in_the_api(chain: Chain, losing_api: Path) -> None:
    """Packets that the api loses appear in the client's report, the audit record and the metrics."""
    client = chain.begin("web-0", "--filter", FILTER)
    client.wait_for("web-0:eth0")
    sent = send(chain, 200, 6000, rate=5000)
    result = client.stop()
    lost = sum(map(int, losing_api.read_text().split()))
    assert 0 < lost == sent - len(result.file.packets)
    assert result.status == 3 and result.report["lost"] == lost
    (source,) = result.sources.values()
    assert_explained(source)
    assert source["drops"] == {**NOWHERE, "api": lost}
    ended = [each for each in chain.api.records() if each.get("audit") == "capture_ended"]
    (audited,) = ended[-1]["sources"]
    assert (audited["dropped_api"], audited["forwarded"], audited["exact"]) == (lost, sent, True)
    place = (chain.api.config["metrics"]["host"], chain.api.config["metrics"]["port"])
    with socket.create_connection(place, 10) as metrics:
        metrics.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = metrics.makefile().read()
    assert f'pcapd_packets_dropped_total{{place="api"}} {float(lost)}' in page


@pytest.mark.parametrize("suffix", ["pcapng", "pcap"])
@pytest.mark.long(but=("pcapng",))
def test_in_the_client(chain: Chain, tmp_path: Path, suffix: str) -> None:
    """A full disk: of what came, the file has what fitted, and the rest is the client's."""
    require("tshark")
    run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)])
    try:
        path = tmp_path / f"full.{suffix}"
        both = ("web-0", "web-1") if suffix == "pcapng" else ("web-0",)
        client = chain.begin(*both, "--filter", FILTER, "--output", str(path), "--no-order")
        client.wait_for(*(f"{name}:eth0" for name in both))
        with Generator(chain.link, size=1000, rate=2000):
            result = client.wait()
        names = [row[0] for row in tshark_fields(path, ["frame.interface_name"])]
    finally:
        run(["umount", str(tmp_path)])
    assert result.status == 1
    lost = 0
    for name, source in result.sources.items():
        in_file = names.count(name) if suffix == "pcapng" else len(names)
        assert source["written"] == in_file > 0
        assert source["drops"]["client"] == source["received_here"] - in_file
        # The client stopped the capture and read to its end, so that nothing is unknown.
        assert (source["drops"]["agent"], source["drops"]["api"], source["exact"]) == (0, 0, True)
        lost += source["drops"]["client"]
    assert result.report["lost"] == result.report["lost_at_least"] == lost > 0
    assert result.report["packets"] == len(names)


def test_in_a_client_that_is_interrupted_twice(chain: Chain, tmp_path: Path) -> None:
    """Packets that the pipe did not take, in a client that is interrupted twice, count as the client's loss."""
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 65536)
    with Generator(chain.link, size=1000, rate=20_000):
        client = chain.begin("web-0", "web-1", "--filter", FILTER, "--output", "-", stdout=write_fd)
        os.close(write_fd)
        state = Path(f"/proc/{client.process.pid}/wchan")
        wait_until(lambda: "pipe" in state.read_text(), "it is blocked on the pipe", timeout=20)
        client.signal()
        time.sleep(0.5)
        client.signal()
        result = client.wait(timeout=20)
    path = tmp_path / "read.pcapng"
    with os.fdopen(read_fd, "rb") as pipe:
        path.write_bytes(pipe.read())
    result.path = path
    file = read_pcapng(path)
    assert result.status == 1
    for name, source in result.sources.items():
        assert source["written"] == len(file.of(name))
        assert source["drops"]["client"] == source["received_here"] - len(file.of(name))
    assert result.report["lost"] is None
    least = sum(source["drops"]["client"] for source in result.sources.values())
    assert result.report["lost_at_least"] >= least > 0


def test_what_comes_after_the_limit_is_not_lost(chain: Chain) -> None:
    """--count ends the capture with 0: what was under way by then is left out, and the sum is explained."""
    client = chain.begin("web-0", "web-1", "--filter", FILTER, "--count", "1000")
    client.wait_for("web-0:eth0", "web-1:eth0")
    with Generator(chain.link, size=200, rate=20_000):
        result = client.wait()
    assert result.status == 0, result.stderr
    assert result.report["packets"] == 1000 and result.report["lost"] == 0
    for source in result.sources.values():
        assert_explained(source)
        assert source["drops"] == NOWHERE
    assert sum(source["unwanted"] for source in result.sources.values()) > 0
