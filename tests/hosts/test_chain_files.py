"""Files from real traffic through agent, api and pcapctl, read by the tools that others use."""

from __future__ import annotations

import subprocess

import pytest

from demo.traffic import HttpTraffic
from tests.kit.hosts.chain import Chain, assert_accounted, chatter, ordered, read_pcap, read_pcapng
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import capinfos, require, tcpdump_lines, tshark_fields

SNAPLEN = 60


def test_two_hosts_become_one_file_that_every_reader_accepts(chain: Chain) -> None:
    """One pcapng holds both hosts' packets in time order, each with its interface and its original length."""
    require("tshark", "capinfos", "tcpdump")
    with HttpTraffic(chain.link.left, chain.link.right, rate=50), Generator(chain.link, size=1000, rate=500):
        result = chain.capture("web-0", "web-1", "--snaplen", str(SNAPLEN), "--duration", "2s")
    assert result.status == 0, result.stderr
    assert_accounted(result)

    rows = tshark_fields(
        result.path, ["frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len", "ip.len"]
    )
    assert {row[0] for row in rows} == {"web-0:eth0", "web-1:eth0"}
    assert ordered([float(row[1].replace(".", "")) for row in rows])
    assert max(int(row[3]) for row in rows) == SNAPLEN
    with_ip = [row for row in rows if row[4]]
    # Short frames are not padded on a veth: the length on the wire is Ethernet's header and IP's length.
    assert all(int(row[2]) == 14 + int(row[4]) for row in with_ip)
    assert any(int(row[2]) == 1000 for row in rows)

    written = sum(source["written"] for source in result.sources.values())
    assert len(rows) == len(tcpdump_lines(result.path)) == written > 0
    summary = capinfos(result.path)
    assert int(summary["Number of packets"]) == written
    assert summary["Strict time order"] == "True"


def test_the_file_says_where_packets_come_from_and_what_was_lost(chain: Chain) -> None:
    """Interfaces, name records and statistics blocks say what the report says."""
    with Generator(chain.link, rate=300):
        result = chain.capture("web-0", "web-1", "--filter", FILTER, "--duration", "1s")
    file = result.file
    # The file has them as they were opened, the report by name.
    assert sorted(interface.name for interface in file.interfaces) == list(result.sources)
    for interface in file.interfaces:
        source = result.sources[interface.name]
        assert interface.filter == source["filter"] and FILTER in interface.filter
        assert "agent" in interface.description and "clock offset" in interface.description
        assert interface.received == source["received"] > 0
        assert interface.dropped_os == source["dropped_kernel"] == 0
        assert interface.dropped_interface == source["dropped_interface"] == 0
        assert len(file.of(interface.name)) == source["written"]
    assert len({interface.snaplen for interface in file.interfaces}) == 1
    assert file.names[chain.link.left.ipv4] == "web-0"
    assert file.names[chain.link.right.ipv4] == "web-1"
    assert file.rest == 0


def test_several_interfaces_in_one_request(chain: Chain) -> None:
    """eth0 and lo of two hosts are four sources in one file, in time order."""
    with Generator(chain.link, rate=500), chatter(chain):
        result = chain.capture(
            *("web-0", "web-1", "--device", "eth0", "--device", "lo"),
            *("--filter", f"({FILTER}) or udp dst port 9998", "--duration", "2s"),
        )
    assert result.status == 0, result.stderr
    assert set(result.sources) == {"web-0:eth0", "web-0:lo", "web-1:eth0", "web-1:lo"}
    assert_accounted(result)
    file = result.file
    assert all(file.of(name) for name in result.sources)
    assert ordered(file.times)


def test_classic_pcap(chain: Chain) -> None:
    """A file that is named .pcap is classic pcap, in time order, and complete."""
    require("tshark", "capinfos", "tcpdump")
    client = chain.begin("web-0", "web-1", "--filter", FILTER, suffix=".pcap")
    client.wait_for("web-0:eth0", "web-1:eth0")
    with Generator(chain.link, rate=1000, count=500) as generator:
        generator.wait()
    result = client.stop()
    assert result.status == 0, result.stderr
    packets = read_pcap(result.path)
    assert len(packets) == sum(source["written"] for source in result.sources.values()) > 0
    assert ordered([packet.time_us for packet in packets])
    assert capinfos(result.path)["File type"] == "pcap"
    assert (
        len(tshark_fields(result.path, ["frame.number"])) == len(tcpdump_lines(result.path)) == len(packets)
    )


def test_interfaces_of_two_link_types(chain: Chain) -> None:
    """Classic pcap refuses them with a hint at pcapng; pcapng takes them."""
    chain.web0.ip("tuntap", "add", "tun0", "mode", "tun")
    chain.web0.ip("link", "set", "tun0", "up")
    try:
        asked = ("web-0", "--device", "eth0", "--device", "tun0", "--duration", "1s")
        refused = chain.capture(*asked, "--format", "pcap")
        taken = chain.capture(*asked)
    finally:
        chain.web0.ip("link", "delete", "tun0")
    assert refused.status == 1
    assert "link type" in refused.report["error"] and "pcapng" in refused.report["error"]
    assert taken.status == 0, taken.stderr
    assert [interface.name for interface in taken.file.interfaces] == ["web-0:eth0", "web-0:tun0"]


def test_without_order_nothing_is_missing(chain: Chain) -> None:
    """--no-order writes as packets come, and as many."""
    with Generator(chain.link, rate=2000):
        result = chain.capture("web-0", "web-1", "--no-order", "--filter", FILTER, "--duration", "1s")
    assert result.status == 0, result.stderr
    assert_accounted(result)
    file = result.file
    for name in result.sources:
        numbers = file.numbers(name)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("form", ["pcapng", "pcap"])
def test_stdout_into_tshark(chain: Chain, form: str) -> None:
    """Packets on stdout are read by tshark as they come, and nothing else is on stdout."""
    require("tshark")
    argv = ["tshark", "-n", "-r", "-", "-T", "fields", "-e", "udp.dstport"]
    with Generator(chain.link, rate=500):
        reader = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        done = chain.start_pcapctl(
            *("hosts", "web-0", "web-1", "--output", "-", "--format", form, "--count", "400"),
            *("--filter", FILTER),
            stdout=reader.stdin,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert reader.stdin is not None
        reader.stdin.close()
        reader.stdin = None
        report = done.communicate(timeout=60)[1]
        lines, complaints = reader.communicate(timeout=60)
    assert done.returncode == 0, report
    assert reader.returncode == 0, complaints
    assert lines.splitlines() == ["9999"] * 400
    assert "400 packets" in report


def test_a_file_can_be_read_while_it_grows(chain: Chain) -> None:
    """Captured packets are in the file within moments, and readable."""
    with Generator(chain.link, rate=500):
        client = chain.begin("web-0", "web-1", "--filter", FILTER)
        client.wait_for("web-0:eth0", "web-1:eth0", packets=500)
        file = read_pcapng(client.path)
        client.stop()
    assert len(file.packets) > 0 and ordered(file.times)


def test_count_and_max_bytes_are_exact(chain: Chain) -> None:
    """--count gives exactly that many packets, --max-bytes no byte more but the closing statistics."""
    with Generator(chain.link, rate=2000):
        counted = chain.capture("web-0", "web-1", "--filter", FILTER, "--count", "777")
        bounded = chain.capture("web-0", "web-1", "--filter", FILTER, "--max-bytes", "100kB", suffix=".pcap")
    assert counted.status == 0 and len(counted.file.packets) == 777
    assert ordered(counted.file.times)
    assert bounded.status == 0
    assert 100_000 - 200 < bounded.path.stat().st_size <= 100_000
    read_pcap(bounded.path)


def test_stop_conditions_need_no_traffic(chain: Chain) -> None:
    """--duration ends a capture on silent hosts; the file says that nothing came."""
    result = chain.capture("web-0", "web-1", "--filter", FILTER, "--duration", "500ms", "--count", "5")
    assert result.status == 0, result.stderr
    assert result.report["packets"] == 0
    assert [interface.received for interface in result.file.interfaces] == [0, 0]
