"""tshark, capinfos and tcpdump read our files, and find in them what we put in."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import pytest

from pcapd.merge import Gap, Source, merge
from pcapd.merge.matching import new_matcher
from pcapd.packet import linktypes
from pcapd.savefile import blocks, pcap
from pcapd.savefile.form import Form
from tests.kit.unit.savefile import blocks_of, datagram, fields, record, run

START = 1_700_000_000_123_456
UNLIMITED = 2**62
SNAPLEN = 262144
SOURCES = [
    (0, [record(START, datagram(), 1500) + record(START + 2, datagram("10.0.0.2", "10.0.0.1"), 42)]),
    (1, [record(START + 1, datagram(), 60)]),
]


def rendered(batch: bytes, interface: int = 0, gaps: Sequence[Gap] = ()) -> bytes:
    """The packet blocks of a batch."""
    return merge([(interface, [batch], gaps)], UNLIMITED, 0, Form.PCAPNG, UNLIMITED, UNLIMITED).data


def interface(number: int, link_type: int = linktypes.ETHERNET) -> bytes:
    return blocks.interface_description(
        f"myapp/{number}:eth0",
        link_type,
        SNAPLEN,
        description=f"cell {number}, clock +0.2 ms",
        filter_text="udp and not port 53",
        addresses=["10.0.0.1/24", "2001:db8::7/64"],
    )


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all that we ever write, in the order in which it happens."""
    path = tmp_path_factory.mktemp("savefile") / "capture.pcapng"
    merged = merge(SOURCES, UNLIMITED, 0, Form.PCAPNG, UNLIMITED, UNLIMITED)
    late = rendered(record(START + 9, datagram(), 42), 2)
    path.write_bytes(
        blocks.section_header("pcapd 1.0", "Grüße")
        + interface(0)
        + interface(1)
        + blocks.name_resolution(
            [("10.0.0.1", "myapp-0"), ("10.0.0.2", "router/3f2a"), ("2001:db8::7", "v6")]
        )
        + merged.data
        + blocks.interface_statistics(0, START + 5, START, START + 4, 3, 0, 1, 2)
        + interface(2)
        + late
        + blocks.interface_statistics(0, START + 9, START, START + 8, 2**40, 7, 2**33, 5)
    )
    return path


def test_packets(capture: Path) -> None:
    """Every packet has its time, its interface's name, its lengths and its addresses' names."""
    found = fields(
        capture, "frame.time_epoch", "frame.interface_name", "frame.len", "frame.cap_len", "ip.src_host"
    )
    assert found == [
        ["1700000000.123456000", "myapp/0:eth0", "1500", "42", "myapp-0"],
        ["1700000000.123457000", "myapp/1:eth0", "60", "42", "myapp-0"],
        ["1700000000.123458000", "myapp/0:eth0", "42", "42", "router/3f2a"],
        ["1700000000.123465000", "myapp/2:eth0", "42", "42", "myapp-0"],
    ]


def test_capinfos(capture: Path) -> None:
    """capinfos lists all interfaces with their facts, the names, and strict time order."""
    out = run("capinfos", "-M", str(capture))
    for line in (
        "Number of packets:   4",
        "Strict time order:   True",
        "Capture application: pcapd 1.0",
        "Capture comment:     Grüße",
        "Number of interfaces in file: 3",
        "Name = myapp/2:eth0",
        "Description = cell 0, clock +0.2 ms",
        "Filter string = udp and not port 53",
        "Time precision = microseconds (6)",
        "Number of stat entries = 2",
        "Number of resolved IPv4 addresses in file: 2",
        "Number of resolved IPv6 addresses in file: 1",
    ):
        assert line in out


def test_statistics(capture: Path) -> None:
    """Counters of more than 32 bits arrive, each under its own name, with the time of reading."""
    last = blocks_of(capture).rsplit("Block: Interface Statistics Block", 1)[1]
    for line in (
        "[Timestamp: Nov 14, 2023 22:13:20.123465000 UTC]",
        f"Number of Accepted Packets = {2**40}",
        "Number of Dropped Packets = 7",
        f"Number of Packets Dropped by OS = {2**33}",
        "Number of Packets Delivered to the User = 5",
        "Option: Start Time",  # tshark 4.0 does not show the values of these two
        "Option: End Time",
    ):
        assert line in last


def test_addresses(capture: Path) -> None:
    """An interface's addresses arrive with their networks, and no block is malformed."""
    out = blocks_of(capture)
    assert "IPv4 Address = 10.0.0.1/255.255.255.0" in out
    assert "IPv6 Address = 2001:db8::7/64" in out
    assert "Malformed" not in out


def test_tcpdump(capture: Path) -> None:
    """tcpdump reads to the end, also past an interface that joined late."""
    lines = run("tcpdump", "-nr", str(capture)).splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("IP 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 0")


def test_any_whole_blocks_are_a_file(capture: Path, tmp_path: Path) -> None:
    """Cut after any whole block, as a killed client leaves it, the file still reads in silence."""
    content, at, cuts = capture.read_bytes(), 0, 0
    path = tmp_path / "cut.pcapng"
    while at < len(content):
        at += int.from_bytes(content[at + 4 : at + 8], "little")
        path.write_bytes(content[:at])
        run("capinfos", str(path))
        cuts += 1
    assert cuts == 11


def test_classic_pcap(tmp_path: Path) -> None:
    """The same merge as classic pcap has the same packets, and one link type."""
    path = tmp_path / "capture.pcap"
    merged = merge(SOURCES, UNLIMITED, 0, Form.PCAP, UNLIMITED, UNLIMITED)
    path.write_bytes(pcap.file_header(linktypes.ETHERNET, SNAPLEN) + merged.data)
    assert fields(path, "frame.time_epoch", "frame.len", "frame.cap_len") == [
        ["1700000000.123456000", "1500", "42"],
        ["1700000000.123457000", "60", "42"],
        ["1700000000.123458000", "42", "42"],
    ]
    assert "Packet size limit:   file hdr: 262144 bytes" in run("capinfos", "-M", str(path))
    assert len(run("tcpdump", "-nr", str(path)).splitlines()) == 3


def test_empty_files(tmp_path: Path) -> None:
    """A capture without traffic is a valid file in both formats."""
    for name, content in (
        ("empty.pcapng", blocks.section_header("pcapd") + interface(0)),
        ("empty.pcap", pcap.file_header(linktypes.ETHERNET, SNAPLEN)),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert "Number of packets:   0" in run("capinfos", "-M", str(path))
        assert run("tcpdump", "-nr", str(path)) == ""
        assert fields(path, "frame.number") == []


def test_any_link_type_of_linux(tmp_path: Path) -> None:
    """Raw IP, which libpcap numbers differently in files, is dissected as such."""
    path = tmp_path / "raw.pcapng"
    packet = datagram()[14:]
    data = rendered(record(START, packet, len(packet)))
    path.write_bytes(blocks.section_header("pcapd") + interface(0, linktypes.from_dlt(12)) + data)
    assert fields(path, "frame.protocols", "ip.dst") == [["raw:ip:udp", "10.0.0.2"]]
    assert len(run("tcpdump", "-nr", str(path)).splitlines()) == 1


def test_hostile_and_endless_text(tmp_path: Path) -> None:
    """Names that are too long, or would drive a terminal, harm neither the file nor its reader."""
    path = tmp_path / "hostile.pcapng"
    hostile = "\x1b[2J\x00\n\u202e\ud800" + "ü" * 70_000
    data = rendered(record(START, datagram(), 42))
    path.write_bytes(
        blocks.section_header(hostile, hostile)
        + blocks.interface_description(hostile, 1, SNAPLEN, hostile, hostile)
        + blocks.name_resolution([("10.0.0.1", hostile), ("10.0.0.2", "after")])
        + data
    )
    assert fields(path, "ip.dst_host") == [["after"]]
    assert "\x1b" not in run("capinfos", "-M", str(path))
    assert len(run("tcpdump", "-nr", str(path)).splitlines()) == 1


@pytest.mark.parametrize("numbered", [False, True])
def test_packets_that_were_lost(tmp_path: Path, numbered: bool) -> None:
    """Wireshark's library shows epb_dropcount as frame.drop_count; capinfos and tcpdump read the file."""
    batch = b"".join(record(START + us, datagram(), 42) for us in range(3))
    gaps = [(START, 5), (START + 1, 2**40)]
    matcher = new_matcher() if numbered else None
    source = Source(0, [batch], gaps, linktypes.ETHERNET)
    data = merge([source], UNLIMITED, 0, Form.PCAPNG, UNLIMITED, UNLIMITED, matcher).data
    path = tmp_path / "lost.pcapng"
    path.write_bytes(blocks.section_header("pcapd") + interface(0) + data)
    assert fields(path, "frame.drop_count") == [[""], ["5"], [str(2**40)]]
    ids = [["1"], ["2"], ["3"]] if numbered else [[""]] * 3
    assert fields(path, "frame.packet_id") == ids
    assert "Number of packets:   3" in run("capinfos", "-c", str(path))
    assert len(run("tcpdump", "-nr", str(path)).splitlines()) == 3
    assert "Malformed" not in blocks_of(path)
