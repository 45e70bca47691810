"""Flows of a file: where packets were seen, how long between, what was lost; whatever the file is."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Iterable, List, Tuple

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pcapd.ctl import flows as flows_module
from pcapd.ctl.flows import Flows, Hop, as_event, as_line, read
from pcapd.ctl.main import cli
from pcapd.errors import PcapdError
from pcapd.savefile import pcapng
from pcapd.savefile import reader as reader_module
from pcapd.savefile.reader import BadFile, FileInterface, FilePacket, Reader, read_file

A = FileInterface("a:eth0", 101, addresses=(bytes([192, 0, 2, 1]),))
B = FileInterface("b:eth0", 101, addresses=(bytes([192, 0, 2, 2]),))
X, Y = FileInterface("x", 101), FileInterface("y", 101)


def packet(number: int, port: int = 40000) -> bytes:
    payload = struct.pack("!4HI", port, 9, 12, 0, number)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, 17, 0)
    return head + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + payload


def hops(sightings: Iterable[Tuple[FileInterface, int, int]], *, ids: bool = False) -> List[Hop]:
    """Of packets by interface, microseconds and number."""
    flows = Flows()
    for interface, us, number in sightings:
        data = packet(number)
        flows.add(FilePacket(interface, us, len(data), data, number + 1 if ids else None))
    return list(flows.hops())


@pytest.mark.parametrize("ids", [True, False])
def test_a_flow_between_two_places(ids: bool) -> None:
    """Seen here and there, the delay, and what did not arrive; with the file's numbers and without."""
    sightings = []
    for number in range(10):
        sightings.append((A, number * 1000, number))
        if number not in (3, 4):
            sightings.append((B, number * 1000 + 100 + number, number))
    (hop,) = hops(sightings, ids=ids)
    assert hop[1:] == ("a:eth0", "b:eth0", 10, 8, 8, (100, 105, 109)) and hop.lost == 2
    assert as_line(hop) == (
        "192.0.2.1:40000 > 192.0.2.2:9 UDP: a:eth0 10 -> b:eth0 8, delay 0.100/0.105/0.109 ms, 2 lost"
    )
    assert as_event(hop) == {
        "from": "192.0.2.1:40000",
        "to": "192.0.2.2:9",
        "protocol": "UDP",
        "a": {"source": "a:eth0", "packets": 10},
        "b": {"source": "b:eth0", "packets": 8},
        "both": 8,
        "delay_us": {"min": 100, "median": 105, "max": 109},
        "lost": 2,
    }


def test_the_sender_is_first_whatever_the_clocks_say() -> None:
    """Whose address it is sends; the delay is negative when its clock is ahead."""
    (hop,) = hops([(B, 0, 1), (A, 5000, 1), (A, 6000, 2)])
    assert (hop.a, hop.b, hop.delays_us, hop.lost) == ("a:eth0", "b:eth0", (-5000, -5000, -5000), 1)


def test_without_addresses_the_earlier_one_is_first() -> None:
    """As far as the median says."""
    (hop,) = hops([(Y, 0, 1), (X, 300, 1), (Y, 1000, 2), (X, 1200, 2), (X, 3000, 3)])
    assert (hop.a, hop.b, hop.delays_us) == ("y", "x", (200, 250, 300))
    assert hop.lost == 0 and as_line(hop).endswith(" 0 lost, 1 only there")


def test_seen_at_one_place() -> None:
    """Nobody knows what was lost then."""
    (hop,) = hops([(A, 0, 1), (A, 1, 2)])
    assert hop.lost is None and as_line(hop).endswith("a:eth0 2, seen nowhere else")
    assert as_event(hop)["b"] is None
    assert [hop.a for hop in hops([(A, 0, 1), (B, 1, 2)])] == ["a:eth0", "b:eth0"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x06" + bytes(28),
        b"\x08\x00" + packet(1)[:19],
        b"\x08\x00\x60" + packet(1)[1:20],
        b"\x08\x00\x41\0\0\4" + packet(1)[4:],
        b"\x86\xdd\x60" + bytes(38),
    ],
    ids=["nothing", "arp", "short", "another version", "no addresses", "short six"],
)
def test_what_has_no_flow(data: bytes) -> None:
    """It is counted, and nothing else."""
    flows = Flows()
    flows.add(FilePacket(FileInterface("a:eth0", 1), 0, 99, bytes(12) + data, None))
    assert (flows.packets, flows.others, list(flows.hops())) == (1, 1, [])


def test_three_places() -> None:
    """Each pair is told."""
    found = hops([(X, 0, 1), (A, 10, 1), (B, 30, 1)])
    assert [(hop.a, hop.b, hop.delays_us and hop.delays_us[1]) for hop in found] == [
        ("a:eth0", "x", -10), ("x", "b:eth0", 30), ("a:eth0", "b:eth0", 20)
    ]  # fmt: skip


def test_many_delays() -> None:
    """Least and greatest are exact; the median is of a sample."""
    sightings = []
    for number in range(20_000):
        sightings += [(A, number * 200, number), (B, number * 200 + number % 101, number)]
    (hop,) = hops(sightings)
    assert hop.both == 20_000 and hop.delays_us is not None
    least, median, greatest = hop.delays_us
    assert (least, greatest) == (0, 100) and 40 <= median <= 60


def test_numbers_of_a_file_that_cannot_be() -> None:
    """One number for packets of two flows, or twice at one place, changes no counts and is no match."""
    flows = Flows()
    for port, interface, us in ((1, A, 0), (2, B, 1), (1, A, 2), (1, B, 10_000_000)):
        data = packet(1, port)
        flows.add(FilePacket(interface, us, len(data), data, 7))
    found = {(as_event(hop)["from"], hop.a, hop.seen_a) for hop in flows.hops()}
    assert found == {
        ("192.0.2.1:1", "a:eth0", 2), ("192.0.2.1:1", "b:eth0", 1), ("192.0.2.1:2", "b:eth0", 1)
    }  # fmt: skip


def test_one_number_twice_at_one_place() -> None:
    """The first is the one that is seen again elsewhere."""
    (hop,) = hops([(A, 0, 1), (A, 50, 1), (B, 100, 1)], ids=True)
    assert hop[3:] == (2, 1, 1, (100, 100, 100))


def test_one_number_long_after() -> None:
    """What lies further apart than packets live is another packet, also when the file is not in order."""
    found = hops([(A, 10_000_000, 1), (B, 0, 1)], ids=True)
    assert [(hop.a, hop.b, hop.both) for hop in found] == [("a:eth0", "", 0), ("b:eth0", "", 0)]


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many flows, pairs or packets at once are counted, not kept."""
    monkeypatch.setattr(flows_module, "FLOWS_MAX", 2)
    monkeypatch.setattr(flows_module, "FLOW_PAIRS_MAX", 1)
    monkeypatch.setattr(flows_module, "MATCH_PACKETS_MAX", 3)
    flows = Flows()
    for port in range(4):
        for interface in (A, B):
            data = packet(1, port)
            flows.add(FilePacket(interface, port, len(data), data, port + 1))
    assert flows.beyond == 4 + 1 and len(list(flows.hops())) == 3
    for number in range(5):
        data = packet(number, 0)
        flows.add(FilePacket(A, 9, len(data), data, 100 + number))
    assert flows.forgotten == 2, "the two before them were seen at both"
    assert len(flows._waiting) == 3


# --- files ----------------------------------------------------------------------


def section(order: str = "<") -> bytes:
    body = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    return struct.pack(f"{order}II", 0x0A0D0D0A, 28) + body + struct.pack(f"{order}I", 28)


def interface(order: str, name: bytes, options: bytes = b"") -> bytes:
    padded = name + bytes(-len(name) & 3)
    body = struct.pack(f"{order}HHIHH", 101, 0, 0, 2, len(name)) + padded + options + bytes(4)
    return struct.pack(f"{order}II", 1, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def block(order: str, number: int, time: int, data: bytes, options: bytes = b"") -> bytes:
    body = struct.pack(f"{order}5I", number, time >> 32, time & 0xFFFFFFFF, len(data), len(data))
    body += data + bytes(-len(data) & 3) + options
    return struct.pack(f"{order}II", 6, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_other_programs(order: str) -> None:
    """Either byte order, any resolution, an offset, several sections, blocks that we do not know."""
    nanos = struct.pack(f"{order}HHBxxx", 9, 1, 9) + struct.pack(f"{order}HHq", 14, 8, 1000)
    binary = struct.pack(f"{order}HHBxxx", 9, 1, 0x80 | 10)
    identity = struct.pack(f"{order}HHQ", 5, 8, 77) + bytes(4)
    data = section(order) + interface(order, b"one", nanos) + interface(order, b"two", binary)
    data += struct.pack(f"{order}III", 0xBAD, 12, 12)
    data += block(order, 0, 5_000_000_123, b"abc", identity) + block(order, 1, 2048 + 512, b"")
    data += section("<") + interface("<", b"three") + block("<", 0, 9, b"x")
    found = list(read_file(io.BytesIO(data)))
    assert [(each.interface.name, each.us, each.data, each.packet_id) for each in found] == [
        ("one", 1_005_000_000, b"abc", 77), ("two", 2_500_000, b"", None), ("three", 9, b"x", None)
    ]  # fmt: skip


def test_our_own_files(tmp_path: Path) -> None:
    """Names and addresses of interfaces are read back; a last block that is cut is passed over."""
    data = pcapng.section_header("pcapd") + pcapng.interface_description(
        "a/0:eth0", 1, 262144, "d", "udp", ["192.0.2.7/24", "2001:db8::7/64"]
    )
    whole = data + block("<", 0, 7, b"abcd")
    (found,) = read_file(io.BytesIO(whole + block("<", 0, 8, b"x")[:-3]))
    assert found.interface.name == "a/0:eth0" and found.us == 7
    assert [len(address) for address in found.interface.addresses] == [4, 16]


def test_what_stands_behind_the_end_of_options() -> None:
    """Is no option."""
    identity = struct.pack("<HHQ", 5, 8, 77)
    data = section() + interface("<", b"x") + block("<", 0, 7, b"abcd", bytes(4) + identity)
    assert [each.packet_id for each in Reader().packets(data)] == [None]


BROKEN = {
    "empty": (b"", "no pcapng"),
    "classic": (struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 9, 1), "no pcapng"),
    "magic": (struct.pack("<III", 0x0A0D0D0A, 28, 5) + bytes(16), "magic"),
    "no interface": (section() + block("<", 3, 0, b""), "interface 3"),
    "length": (section() + struct.pack("<III", 6, 13, 13), "13 bytes"),
    "a tiny block": (section() + struct.pack("<III", 6, 8, 8), "8 bytes"),
    "a second section": (section() + struct.pack("<III", 0x0A0D0D0A, 28, 5) + bytes(16), "magic"),
    "a huge block": (section() + struct.pack("<III", 6, 0x7FFFFFFC, 0), "2147483644 bytes"),
    "two lengths": (section() + struct.pack("<III", 7, 12, 16), "12 bytes, and then 16"),
    "a short block": (section() + struct.pack("<III", 6, 12, 12), "too short"),
    "a long packet": (
        section() + interface("<", b"x") + struct.pack("<8I", 6, 32, 0, 0, 0, 9, 9, 32),
        "9 bytes",
    ),
    "a long option": (section() + interface("<", b"x", struct.pack("<HH", 3, 99)), "an option"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(tmp_path: Path, case: str) -> None:
    """Are named, with what is wrong."""
    data, words = BROKEN[case]
    path = tmp_path / "x.pcapng"
    path.write_bytes(data)
    with pytest.raises(PcapdError, match=words) as broken:
        read([str(path)])
    assert "x.pcapng" in str(broken.value)


def test_so_many_interfaces_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but interfaces fills no memory."""
    monkeypatch.setattr(reader_module, "FILE_INTERFACES_MAX", 3)
    good, bad = (section() + interface("<", b"x") * count for count in (3, 4))
    assert list(Reader().packets(good)) == []
    with pytest.raises(BadFile, match="more than 3 interfaces"):
        list(Reader().packets(bad))


@pytest.mark.parametrize("end", [11, 27, 29, 39])
def test_blocks_that_are_not_whole(end: int) -> None:
    data = (section() + interface("<", b"x"))[:end]
    with pytest.raises(BadFile, match="ends within a block"):
        list(Reader().packets(data))


GOOD = (
    section() + interface("<", b"one", struct.pack("<HHBxxx", 9, 1, 9)) + interface("<", b"two")
    + b"".join(
        block("<", place, 1000 + n, packet(n), struct.pack("<HHQ", 5, 8, n) + bytes(4))
        for n in range(3)
        for place in (0, 1)
    )
)  # fmt: skip


@given(
    changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6),
    end=st.integers(0, len(GOOD)),
)
def test_nearly_good_files(changes: List[Tuple[int, int]], end: int) -> None:
    """Changed anywhere and cut anywhere: packets, or words about what is wrong."""
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    flows = Flows()
    try:
        for each in read_file(io.BytesIO(bytes(data[:end] if end % 2 else data))):
            flows.add(each)
    except BadFile:
        pass
    for hop in flows.hops():
        assert as_line(hop).isprintable() and json.dumps(as_event(hop))


@given(data=st.binary(max_size=300))
def test_garbage_behind_a_header(data: bytes) -> None:
    """Likewise."""
    try:
        assert isinstance(list(read_file(io.BytesIO(section() + interface("<", b"x") + data))), list)
    except BadFile as error:
        assert error.message


def test_the_command(tmp_path: Path) -> None:
    """Text and JSON; several files are one capture; a file that is not there is an error."""
    one, two = tmp_path / "one.pcapng", tmp_path / "two.pcapng"
    one.write_bytes(section() + interface("<", b"one") + block("<", 0, 5, packet(1)) + block("<", 0, 6, b"?"))
    two.write_bytes(section() + interface("<", b"two") + block("<", 0, 9, packet(1)))
    done = CliRunner().invoke(cli, ["flows", str(one), str(two)])
    assert done.exit_code == 0
    assert (
        "192.0.2.1:40000 > 192.0.2.2:9 UDP: one 1 -> two 1, delay 0.004/0.004/0.004 ms, 0 lost\n"
        in done.output
    )
    assert "1 packets are not IP" in done.output
    done = CliRunner().invoke(cli, ["flows", "-", "--json"], input=two.read_bytes())
    assert json.loads(done.output)["a"] == {"source": "two", "packets": 1}
    missing = CliRunner().invoke(cli, ["flows", str(tmp_path / "none")])
    assert isinstance(missing.exception, PcapdError) and "No such file" in str(missing.exception)
