"""More than one file, and other places for packets: rotation, split, PCAP-over-IP, one line per packet."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.daemons import environment
from demo.processes import run, wait_until
from demo.traffic import HttpTraffic
from tests.kit.hosts.chain import Chain, Client, Result, assert_accounted, ordered, read_pcap, read_pcapng
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import capinfos, capinfos_of, require, tcpdump_lines, tshark_fields


def files_of(result: Result) -> list[Path]:
    """The files that the report names; each is read by the tools of others, and holds what it says."""
    files = result.report["files"]
    paths = [Path(facts["file"]) for facts in files]
    for path, facts, found in zip(paths, files, capinfos_of(paths)):
        assert path.stat().st_size == facts["bytes"]
        assert int(found["Number of packets"]) == len(tcpdump_lines(path)) == facts["packets"]
    # tshark takes half a second to begin, and reads files with the same library as capinfos.
    for index in {0, len(files) - 1}:
        assert len(tshark_fields(paths[index], ["frame.number"])) == files[index]["packets"]
    return paths


def of_prefix(path: Path) -> list[Path]:
    """What is there of a capture's files, by name."""
    stem, _, suffixes = path.name.partition(".")
    return sorted(path.parent.glob(f"{stem}_*.{suffixes}"))


@pytest.mark.long
def test_files_by_size(chain: Chain) -> None:
    """Every packet is in one file of the series; each has all interfaces, names and counters."""
    require("tshark", "capinfos", "tcpdump")
    client = chain.begin("web-0", "web-1", "--filter", FILTER, "--rotate-size", "200kB")
    client.wait_for("web-0:eth0", "web-1:eth0")
    with Generator(chain.link, size=1000, rate=2000, count=1500) as generator:
        generator.wait()
    result = client.stop()
    assert result.status == 0, result.stderr
    paths = files_of(result)
    assert len(paths) > 5 and paths == of_prefix(result.path)
    files = [read_pcapng(path) for path in paths]
    names = [interface.name for interface in files[0].interfaces]
    assert sorted(names) == sorted(result.sources)
    for path, file in zip(paths, files):
        assert [interface.name for interface in file.interfaces] == names
        assert file.names and file.rest == 0
        assert all(interface.received is not None for interface in file.interfaces)
        assert path.stat().st_size < 201_000
    for name in result.sources:
        numbers = [number for file in files for number in file.numbers(name)]
        assert numbers == list(range(1500)) and result.sources[name]["written"] == 1500
    assert ordered([time for file in files for time in file.times])
    finished = [event for event in result.events if event["event"] == "file"]
    assert [event["file"] for event in finished] == [str(path) for path in paths]
    assert result.report["file"] is None


@pytest.mark.long
def test_a_ring_in_classic_pcap(chain: Chain) -> None:
    """The newest files stay, and what was deleted is said."""
    require("tshark", "capinfos", "tcpdump")
    client = chain.begin(
        *("web-0", "--filter", FILTER, "--rotate-size", "100kB", "--rotate-files", "3"), suffix=".pcap"
    )
    client.wait_for("web-0:eth0")
    with Generator(chain.link, size=1000, rate=2000, count=1500) as generator:
        generator.wait()
    result = client.stop()
    assert result.status == 0, result.stderr
    paths = files_of(result)
    assert len(paths) == 3 and paths == of_prefix(result.path)
    packets = [packet for path in paths for packet in read_pcap(path)]
    deleted = result.report["deleted"]
    assert deleted["files"] > 5
    assert (
        deleted["packets"] + len(packets)
        == result.report["packets"]
        == result.sources["web-0:eth0"]["written"]
    )
    gone = [
        event["file"] for event in result.events if event["event"] == "file" and event["state"] == "deleted"
    ]
    assert len(gone) == deleted["files"] and not any(Path(name).exists() for name in gone)


@pytest.mark.long
def test_files_by_time(chain: Chain) -> None:
    """A new file each second, until Ctrl-C; the text report names them all and what was deleted."""
    require("tshark", "capinfos", "tcpdump")
    path = chain.path()
    with Generator(chain.link, rate=500):
        done = chain.pcapctl(
            *("hosts", "web-0", "--filter", FILTER, "--rotate-time", "1s", "--rotate-files", "2"),
            *("--duration", "4500ms", "--output", str(path)),
        )
    assert done.returncode == 0, done.stderr
    paths = of_prefix(path)
    assert len(paths) == 2
    for each in paths:
        assert f"{each}: " in done.stderr
        assert int(capinfos(each)["Number of packets"]) == len(tcpdump_lines(each)) > 100
    assert "more packets were deleted with the" in done.stderr and "--rotate-files" in done.stderr


@pytest.mark.long
def test_a_file_per_instance(chain: Chain) -> None:
    """Each instance's file holds its own interfaces only; with a size limit each has a series of its own."""
    require("tshark", "capinfos", "tcpdump")
    with Generator(chain.link, size=1000, rate=1000):
        whole = chain.capture(
            "web-0", "web-1", "--filter", FILTER, "--split-by", "instance", "--duration", "1s"
        )
        rotated = chain.capture(
            *("web-0", "web-1", "--filter", FILTER, "--split-by", "instance", "--rotate-size", "100kB"),
            *("--duration", "1500ms"),
        )
    assert whole.status == rotated.status == 0, whole.stderr + rotated.stderr
    # In the order in which they were opened, which is any.
    assert sorted(path.name for path in files_of(whole)) == [
        f"{whole.path.stem}_web-0.pcapng", f"{whole.path.stem}_web-1.pcapng"
    ]  # fmt: skip
    for path, name in zip(sorted(files_of(whole)), ("web-0:eth0", "web-1:eth0")):
        file = read_pcapng(path)
        assert [interface.name for interface in file.interfaces] == [name]
        assert len(file.packets) == whole.sources[name]["written"] > 0
        assert ordered(file.times)
    paths = files_of(rotated)
    assert {path.name[: len(rotated.path.stem) + 12] for path in paths} >= {
        f"{rotated.path.stem}_web-{host}_{number:05d}" for host in (0, 1) for number in (1, 2, 3)
    }
    for instance in ("web-0", "web-1"):
        facts = [facts for facts in rotated.report["files"] if facts["instance"] == instance]
        assert sum(each["packets"] for each in facts) == rotated.sources[f"{instance}:eth0"]["written"]


@pytest.mark.long
def test_ctrl_c_twice_between_files(chain: Chain) -> None:
    """A second Ctrl-C leaves whole files, all but the last with their closing counters."""
    require("tshark", "capinfos", "tcpdump")
    with Generator(chain.link, size=1000, rate=5000):
        client = chain.begin("tiny-0", "web-0", "--filter", FILTER, "--rotate-size", "100kB")
        client.wait_for("tiny-0:eth0", "web-0:eth0", packets=1000)
        # The end takes a while: this one does not answer to the first.
        chain.second.signal(signal.SIGSTOP)
        try:
            client.signal()
            time.sleep(0.3)
            client.signal()
            result = client.wait(timeout=20)
        finally:
            chain.second.signal(signal.SIGCONT)
    assert result.status == 1 and result.report["reason"] == "interrupted twice"
    paths = of_prefix(result.path)
    assert len(paths) > 5
    files = [read_pcapng(path) for path in paths]
    assert all(file.rest == 0 for file in files)
    for file in files[:-1]:
        assert all(interface.received is not None for interface in file.interfaces)
    assert ordered([time for file in files for time in file.times])
    counts = [len(file.packets) for file in files]
    assert [int(found["Number of packets"]) for found in capinfos_of(paths)] == counts
    assert len(tshark_fields(paths[-1], ["frame.number"])) == counts[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rotate-size", "1MB", "--output", "-"), "standard output"),
        (("--split-by", "instance", "--output", "-"), "standard output"),
        (("--rotate-files", "3"), "--rotate-size or --rotate-time"),
        (("--rotate-size", "100"), "needs a unit"),
        (("--rotate-time", "5x"), "--rotate-time"),
        (("--rotate-files", "0"), "--rotate-files"),
        (("--split-by", "app"), "instance"),
    ],
)
def test_what_does_not_go_together(chain: Chain, arguments: tuple[str, ...], words: str) -> None:
    """Options that exclude each other are wrong usage, reported before the api is asked."""
    before = len(chain.api.records())
    done = chain.pcapctl("hosts", "web-0", *arguments)
    assert done.returncode == 2 and words in done.stderr
    assert len(chain.api.records()) == before


@pytest.mark.long
def test_a_disk_that_fills_between_files(chain: Chain, tmp_path: Path) -> None:
    """Every file is whole, and the packets that found no room are counted."""
    require("tshark", "capinfos", "tcpdump")
    run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)])
    try:
        with Generator(chain.link, size=1000, rate=2000):
            done = chain.pcapctl(
                *("hosts", "web-0", "--filter", FILTER, "--rotate-size", "64kB", "--json"),
                *("--output", str(tmp_path / "full.pcapng")),
            )
        report = json.loads(done.stdout.splitlines()[-1])
        paths = sorted(tmp_path.iterdir())
        assert done.returncode == 1 and "No space left" in report["error"]
        assert len(paths) > 3
        counts = [len(tshark_fields(path, ["frame.number"])) for path in paths]
    finally:
        run(["umount", str(tmp_path)])
    assert sum(counts) == report["packets"] > 100
    assert [facts["packets"] for facts in report["files"]] == counts


# --- PCAP-over-IP -------------------------------------------------------------


def serving_at(client: Client) -> str:
    """Where a pcapctl serves."""

    def said() -> list[str]:
        return [event["address"] for event in client.events() if event["event"] == "serving"]

    wait_until(lambda: bool(said()), "it serves", timeout=30)
    return said()[0]


def readers_of(client: Client) -> int:
    """Readers that connected so far."""
    return sum(event["event"] == "reader" and event["state"] == "connected" for event in client.events())


@pytest.mark.parametrize("form", ["pcapng", "pcap"])
@pytest.mark.long(but=("pcapng",))
def test_tshark_reads_over_tcp(chain: Chain, tmp_path: Path, form: str) -> None:
    """Two tsharks, one of which comes late, read every packet from then on, with its interface."""
    require("tshark")
    client = chain.begin(
        *("web-0", "web-1", "--filter", FILTER, "--serve", "127.0.0.1:0", "--format", form), suffix=f".{form}"
    )
    address = serving_at(client)
    client.wait_for("web-0:eth0", "web-1:eth0")
    readers = []
    for number in range(2):
        readers.append(start_tshark(address, tmp_path / f"{number}.txt", form))
        wait_until(lambda number=number: readers_of(client) == number + 1, "the reader is there", timeout=30)
        with Generator(chain.link, rate=500, count=100) as generator:
            generator.wait()
        client.wait_for("web-0:eth0", "web-1:eth0", packets=100 * (number + 1))
    result = client.stop()
    for reader in readers:
        assert reader.wait(60) == 0
    assert result.status == 0, result.stderr
    first, second = (
        [line.split("\t") for line in (tmp_path / f"{number}.txt").read_text().splitlines()]
        for number in range(2)
    )
    assert len(first) == result.report["packets"] == 400 and len(second) == 200
    if form == "pcapng":
        assert {row[0] for row in second} == {"web-0:eth0", "web-1:eth0"}
    assert first[-200:] == [[row[0], str(int(row[1]) + 200), row[2]] for row in second]
    assert result.report["served"] == {"address": address, "readers": 2, "cut_off": 0}
    assert len(tshark_fields(result.path, ["frame.number"])) == 400, "and there is a file"


def start_tshark(address: str, output: Path, form: str) -> subprocess.Popen[bytes]:
    """A tshark that reads from there into a text file."""
    fields = ["frame.interface_name", "frame.number", "frame.time_epoch"]
    argv = ["tshark", "-n", "-l", "-i", f"TCP@{address}", "-T", "fields"]
    argv += [word for field in fields for word in ("-e", field)]
    return subprocess.Popen(argv, stdout=output.open("wb"), stderr=subprocess.DEVNULL)


def test_serving_alone_writes_no_file(chain: Chain, tmp_path: Path) -> None:
    """--serve alone writes no file and prints its address, with a warning when others can reach it."""
    done = chain.pcapctl("hosts", "web-0", "--duration", "200ms", "--serve", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tshark -i TCP@127.0.0.1:" in done.stderr and "not written to a file" in done.stderr
    assert "warning" not in done.stderr
    done = chain.pcapctl("hosts", "web-0", "--duration", "200ms", "-q", "--serve", "0.0.0.0:0", cwd=tmp_path)
    assert "warning: anyone who can reach 0.0.0.0:" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_taken(chain: Chain, tmp_path: Path) -> None:
    """A --serve address that is in use is reported before the api is asked."""
    before = len(chain.api.records())
    done = chain.pcapctl("hosts", "web-0", "--serve", f"127.0.0.1:{chain.api.port}", cwd=tmp_path)
    assert done.returncode == 1 and "cannot listen" in done.stderr
    assert len(chain.api.records()) == before


@pytest.mark.long
def test_a_reader_that_hangs_holds_up_nobody(chain: Chain) -> None:
    """A reader that hangs is disconnected at the end at the latest, and the file is complete."""
    client = chain.begin("web-0", "--filter", FILTER, "--serve", "127.0.0.1:0")
    host, port = serving_at(client).split(":")
    client.wait_for("web-0:eth0")
    with (
        socket.create_connection((host, int(port))),
        Generator(chain.link, size=1400, rate=10_000) as generator,
    ):
        client.wait_for("web-0:eth0", packets=15_000)
        generator.stop()
        result = client.stop()
    assert_accounted(result)
    drops = result.sources["web-0:eth0"]["drops"]
    assert drops["agent"] == drops["api"] == drops["client"] == 0, "what waits for a reader is the kernel's"
    # Without enough processors for a while the kernel may drop: it is counted, and no fault of the reader.
    assert result.status == (3 if result.report["lost"] else 0), result.stderr
    assert result.report["served"]["cut_off"] == 1
    assert len(result.file.packets) == result.report["packets"] >= 15_000


# --- one line per packet ---------------------------------------------------------


TALK = """
import socket, ssl, struct, sys
server = sys.argv[1]
name = b"\\7example\\4test\\0"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.sendto(struct.pack("!6H", 7, 256, 1, 0, 0, 0) + name + b"\\0\\1\\0\\1", (server, 53))
context = ssl.create_default_context()
try:
    with socket.create_connection((server, 8080), 5) as plain:
        context.wrap_socket(plain, server_hostname="shop.example.test")
except OSError:
    pass  # it is no TLS server: the ClientHello is enough
"""


@pytest.mark.long
def test_a_line_per_packet(chain: Chain) -> None:
    """--print shows what tshark finds, HTTP, DNS and TLS names, each with its host."""
    require("tshark")
    path = chain.path()
    arguments = ("hosts", "web-0", "web-1", "--print", "--output", str(path), "--duration", "4s")
    process = chain.start_pcapctl(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(path.exists, "it captures", timeout=30)
    server = chain.link.right.ipv4
    with HttpTraffic(chain.link.left, chain.link.right, rate=5, seconds=1) as traffic:
        chain.web0.run(sys.executable, "-c", TALK, server)
        traffic.wait()
    output, words = process.communicate(timeout=60)
    assert process.returncode == 0, words
    lines = output.splitlines()
    assert len(lines) == len(tcpdump_lines(path)) > 20

    for host in ("web-0", "web-1"):
        own = [line for line in lines if f" {host}:eth0 " in line]
        shown = f'frame.interface_name == "{host}:eth0"'
        for tool, ours in {
            'tcp.payload contains "GET /request/"': r" HTTP \d+ GET /request/\d+ HTTP/1\.1$",
            'tcp.payload contains "200 OK"': r" HTTP \d+ HTTP/1\.0 200 OK$",
            "dns && !icmp": rf" > {re.escape(server)}:53 DNS \d+ query A example\.test$",
            'tcp.payload contains "shop.example.test"': r" TLS \d+ ClientHello shop\.example\.test$",
        }.items():
            expected = len(tshark_fields(path, ["frame.number"], f"{shown} && {tool}"))
            found = [line for line in own if re.search(ours, line)]
            assert len(found) == expected > 0, (tool, found)
    first = tshark_fields(path, ["frame.time_epoch", "frame.len", "ip.src", "tcp.srcport"], "http.request")[0]
    (line,) = [line for line in lines if "GET /request/0 HTTP/1.1" in line and " web-0:eth0 " in line]
    seconds, micros = first[0].split(".")
    clock = time.strftime("%H:%M:%S", time.localtime(int(seconds)))
    assert line.startswith(
        f"{clock}.{micros[:6]} web-0:eth0 {first[2]}:{first[3]} > {server}:8080 HTTP {first[1]} "
    )


def test_printing_alone_writes_no_file(chain: Chain, tmp_path: Path) -> None:
    """--print alone writes no file; with --json each packet is an event."""
    with Generator(chain.link, rate=200):
        done = chain.pcapctl(
            *("hosts", "web-0", "--print", "--json", "--count", "20", "--filter", FILTER), cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    packets = [event for event in events if event["event"] == "packet"]
    assert len(packets) == events[-1]["packets"] == 20 and events[-1]["file"] is None
    assert {packet["protocol"] for packet in packets} == {"UDP"}
    assert {packet["source"] for packet in packets} == {"web-0:eth0"}
    assert list(tmp_path.iterdir()) == []


def test_nobody_reads_the_lines(chain: Chain) -> None:
    """The capture ends in good order and says why, without a traceback; the file is whole."""
    path = chain.path()
    with Generator(chain.link, rate=500):
        process = chain.start_pcapctl(
            *("hosts", "web-0", "--filter", FILTER, "--print", "--output", str(path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        words = process.stderr.read().decode()
        assert process.wait(30) == 0
    assert "closed the pipe" in words and "Traceback" not in words and "Exception" not in words
    file = read_pcapng(path)
    assert file.rest == 0 and file.packets


@pytest.mark.long
def test_a_reader_of_lines_that_pauses(chain: Chain) -> None:
    """The chain waits for it, the kernel counts what does not fit, and nothing is lost without a number."""
    read_fd, write_fd = os.pipe()
    client = chain.begin("tiny-0", "--filter", FILTER, "--print", stdout=write_fd)
    os.close(write_fd)
    state = Path(f"/proc/{client.process.pid}/wchan")
    with Generator(chain.link, size=1400, rate=20_000) as generator:
        wait_until(lambda: "pipe" in state.read_text(), "it is blocked on the pipe", timeout=30)
        time.sleep(3)
        generator.stop()
    client.signal()
    with os.fdopen(read_fd, "rb") as lines:
        events = [json.loads(line) for line in lines]
    assert client.process.wait(60) == 3
    (source,) = events[-1]["sources"]
    assert source["dropped_kernel"] > 0
    assert source["received"] == source["delivered"] + source["dropped_kernel"]
    assert source["delivered"] == source["written"] == sum(event["event"] == "packet" for event in events)


@pytest.mark.parametrize(
    ("output", "words"), [("-", "name a file"), ("x.pcap", "needs pcapng")]
)  # fmt: skip
def test_where_lines_cannot_go(chain: Chain, output: str, words: str) -> None:
    """--print is refused where its lines would mix with packets or lack the instance's name."""
    done = chain.pcapctl("hosts", "web-0", "--print", "--output", output)
    assert done.returncode == 2 and words in done.stderr


# --- compressed -----------------------------------------------------------------------


@pytest.mark.long
def test_compressed_files(chain: Chain) -> None:
    """Wireshark's programs and zcat read them, whole or with a pcapctl that was killed; rotation makes several."""
    require("tshark", "capinfos")
    path = chain.path(".pcapng.gz")
    with Generator(chain.link, rate=500):
        done = chain.pcapctl("hosts", "web-0", "--filter", FILTER, "--count", "300", "--output", str(path))
        assert done.returncode == 0, done.stderr
        series = chain.path(".pcapng.gz")
        arguments = ("--filter", FILTER, "--count", "300", "--rotate-time", "200ms", "--output", str(series))
        assert chain.pcapctl("hosts", "web-0", *arguments).returncode == 0
        killed = chain.path(".pcapng.gz")
        process = chain.start_pcapctl("hosts", "web-0", "--filter", FILTER, "--output", str(killed))
        wait_until(lambda: killed.exists() and killed.stat().st_size > 4000, "some is compressed", timeout=30)
        process.kill()
        process.wait(30)
    assert int(capinfos(path)["Number of packets"]) == len(tshark_fields(path, ["frame.number"])) == 300
    assert len(gzip.decompress(path.read_bytes())) > 5 * path.stat().st_size
    assert all(name.endswith(".pcapng.gz") for name in map(str, of_prefix(series)))
    assert sum(len(tshark_fields(part, ["frame.number"])) for part in of_prefix(series)) == 300
    assert len(tshark_fields(killed, ["frame.number"])) > 100


# --- both ends in one file ---------------------------------------------------------


#: Sends numbered datagrams, whether they arrive or not.
SEND = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
    sending.bind(("", 9996))
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        try:
            sending.sendto(b"%06d" % number + bytes(900), (sys.argv[1], 9997))
        except OSError:
            pass
        time.sleep(0.002)
"""


def flows_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``pcapctl flows``, which needs no api."""
    argv = [sys.executable, "-m", "pcapd.ctl", "flows", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=environment())


def test_both_ends_in_one_file(chain: Chain) -> None:
    """Equal numbers for tshark; `pcapctl flows` finds the packets that were lost between, and no others."""
    require("tshark", "capinfos", "tcpdump")
    client = chain.begin("web-0", "web-1", "--filter", "udp port 9997", "--packet-ids")
    client.wait_for("web-0:eth0", "web-1:eth0")
    server = chain.link.right.ipv4
    chain.web0.run(sys.executable, "-c", SEND, server, "0", "200")
    # The other end of a veth takes no frames above its MTU: they are lost between the two.
    chain.web1.ip("link", "set", "eth0", "mtu", "600")
    try:
        chain.web0.run(sys.executable, "-c", SEND, server, "200", "270")
    finally:
        chain.web1.ip("link", "set", "eth0", "mtu", "1500")
    chain.web0.run(sys.executable, "-c", SEND, server, "270", "300")
    client.wait_for("web-0:eth0", packets=300)
    client.wait_for("web-1:eth0", packets=230)
    result = client.stop()
    assert_accounted(result)
    # No capture lost them.
    assert result.status == 0 and result.sources["web-1:eth0"]["dropped_interface"] == 0
    assert int(capinfos(result.path)["Number of packets"]) == len(tcpdump_lines(result.path)) == 530

    rows = tshark_fields(result.path, ["frame.interface_name", "frame.packet_id", "data.data"])
    content = {(name, number): data for name, number, data in rows}
    left, right = ({number for name, number in content if name == f"web-{host}:eth0"} for host in (0, 1))
    assert len(rows) == len(content) and len(left) == 300 and len(right) == 230 and right < left
    assert all(content["web-0:eth0", number] == content["web-1:eth0", number] for number in right)

    done = flows_of(str(result.path), "--json")
    (flow,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert flow["a"] == {"source": "web-0:eth0", "packets": 300}
    assert flow["b"] == {"source": "web-1:eth0", "packets": 230}
    assert flow["both"] == 230 and flow["lost"] == 70
    assert -1000 < flow["delay_us"]["median"] < 100_000
    text = flows_of(str(result.path)).stdout
    assert text.splitlines()[:2] == [
        "530 packets, 1 flow, 70 lost between two places",
        "web-0:eth0 -> web-1:eth0: 1 flow, 300 packets, 70 lost",
    ]
    assert ", 70 lost" in text and "web-0:eth0 300 -> web-1:eth0 230" in text


@pytest.mark.long
def test_flows_of_a_file_without_numbers(chain: Chain) -> None:
    """Flows of a file without numbers are the same, also in a file per instance and in both directions of TCP."""
    require("tshark")
    path = chain.path()
    arguments = ("hosts", "web-0", "web-1", "--split-by", "instance", "--filter", "tcp port 8080")
    process = chain.start_pcapctl(
        *arguments, "--output", str(path), "--duration", "3s", stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(of_prefix(path)) == 2, "it captures", timeout=30)
    with HttpTraffic(chain.link.left, chain.link.right, rate=10, seconds=1) as traffic:
        answered = traffic.wait()
    _, words = process.communicate(timeout=60)
    assert process.returncode == 0, words
    done = flows_of("--json", *map(str, of_prefix(path)))
    flows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(flows) == 2 * answered
    assert {flow["lost"] for flow in flows} == {0}
    ends = {(flow["a"]["source"], flow["b"]["source"], flow["from"].split(":")[0]) for flow in flows}
    assert ends == {
        ("web-0:eth0", "web-1:eth0", chain.link.left.ipv4),
        ("web-1:eth0", "web-0:eth0", chain.link.right.ipv4),
    }


def test_each_packet_once(chain: Chain) -> None:
    """--dedupe keeps the first sighting; the others are counted, per source, and nothing is missing."""
    require("tshark", "capinfos", "tcpdump")
    client = chain.begin("web-0", "web-1", "--filter", FILTER, "--dedupe")
    client.wait_for("web-0:eth0", "web-1:eth0")
    with Generator(chain.link, rate=1000, count=500) as generator:
        generator.wait()
    client.wait_for("web-0:eth0", "web-1:eth0", packets=500)
    result = client.stop()
    assert result.status == 0, result.stderr
    assert [source["received_here"] for source in result.sources.values()] == [500, 500]
    assert sum(source["written"] for source in result.sources.values()) == result.report["packets"] == 500
    assert sum(source["duplicates"] for source in result.sources.values()) == 500
    assert all(
        source["written"] + source["duplicates"] == source["delivered"] for source in result.sources.values()
    )
    file = result.file
    found = [number for name in result.sources for number in file.numbers(name)]
    assert sorted(found) == list(range(500)) and ordered(file.times)
    assert len(files_of(result)) == 1


@pytest.mark.parametrize("option", ["--packet-ids", "--dedupe"])
def test_numbers_need_pcapng(chain: Chain, option: str) -> None:
    """Classic pcap has no room for them."""
    done = chain.pcapctl("hosts", "web-0", option, "--output", "x.pcap")
    assert done.returncode == 2 and f"{option} needs pcapng" in done.stderr


def test_flows_of_what_is_no_capture(chain: Chain, tmp_path: Path) -> None:
    """Status 1, the file's name and what it is not; a packet that is cut at the end does no harm."""
    path = tmp_path / "x.pcapng"
    path.write_text("no capture")
    done = flows_of(str(path))
    assert done.returncode == 1 and str(path) in done.stderr and "not a pcapng file" in done.stderr
    assert flows_of().returncode == 2
    with Generator(chain.link, rate=500):
        result = chain.capture("web-0", "--filter", FILTER, "--count", "50", "--max-bytes", "1MB")
    path.write_bytes(result.path.read_bytes()[:-150])
    done = flows_of(str(path))
    assert done.returncode == 0 and "seen nowhere else" in done.stdout
