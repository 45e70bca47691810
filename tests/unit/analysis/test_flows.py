"""Flows of a file: where packets were seen, how long between, what was lost; whatever the file is."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterable, List, Optional, Tuple

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapd.ctl.display.flows import Flows, Hop, as_event, as_line, read
from pcapd.ctl.main import cli
from pcapd.errors import PcapdError
from pcapd.packet.row import make_row, rows_of
from pcapd.savefile.reader import BadFile, FileInterface, read_rows
from tests.kit.files import block, interface, section
from tests.kit.implementations import implementations

A = FileInterface("a:eth0", 101, addresses=(bytes([192, 0, 2, 1]),))
B = FileInterface("b:eth0", 101, addresses=(bytes([192, 0, 2, 2]),))
X, Y = FileInterface("x", 101), FileInterface("y", 101)


def packet(number: int, port: int = 40000) -> bytes:
    payload = struct.pack("!4HI", port, 9, 12, 0, number)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, 17, 0)
    return head + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + payload


def add(flows: Flows, interface: FileInterface, us: int, data: bytes, number: Optional[int] = None) -> None:
    """A packet that an interface saw."""
    flows.add(make_row(interface.link_type, data, us, len(data), flows.place(interface), 0, number))


def hops(sightings: Iterable[Tuple[FileInterface, int, int]], *, ids: bool = False) -> List[Hop]:
    """Of packets by interface, microseconds and number."""
    flows = Flows()
    for seen_by, us, number in sightings:
        add(flows, seen_by, us, packet(number), number + 1 if ids else None)
    return list(flows.hops())


@pytest.mark.parametrize("ids", [True, False])
def test_a_flow_between_two_places(ids: bool) -> None:
    """A flow between two places shows delay and losses, with and without the file's packet numbers."""
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
    """The owner of the source address is the sender; the delay is negative when its clock is ahead."""
    (hop,) = hops([(B, 0, 1), (A, 5000, 1), (A, 6000, 2)])
    assert (hop.a, hop.b, hop.delays_us, hop.lost) == ("a:eth0", "b:eth0", (-5000, -5000, -5000), 1)


def test_without_addresses_the_earlier_one_is_first() -> None:
    """Without addresses the place with the earlier median counts as the sender."""
    (hop,) = hops([(Y, 0, 1), (X, 300, 1), (Y, 1000, 2), (X, 1200, 2), (X, 3000, 3)])
    assert (hop.a, hop.b, hop.delays_us) == ("y", "x", (200, 250, 300))
    assert hop.lost == 0 and as_line(hop).endswith(" 0 lost, 1 only there")


def test_seen_at_one_place() -> None:
    """The losses of a flow seen at one place are unknown."""
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
    """Packets without a flow are counted, and nothing else."""
    flows = Flows()
    add(flows, FileInterface("a:eth0", 1), 0, bytes(12) + data)
    assert (flows.packets, flows.others, list(flows.hops())) == (1, 1, [])


def test_three_places() -> None:
    """With three places each pair is reported."""
    found = hops([(X, 0, 1), (A, 10, 1), (B, 30, 1)])
    assert [(hop.a, hop.b, hop.delays_us and hop.delays_us[1]) for hop in found] == [
        ("a:eth0", "x", -10), ("x", "b:eth0", 30), ("a:eth0", "b:eth0", 20)
    ]  # fmt: skip


def test_many_delays() -> None:
    """Of many delays least and greatest are exact, and the median is of a sample."""
    sightings = []
    for number in range(20_000):
        sightings += [(A, number * 200, number), (B, number * 200 + number % 101, number)]
    (hop,) = hops(sightings)
    assert hop.both == 20_000 and hop.delays_us is not None
    least, median, greatest = hop.delays_us
    assert (least, greatest) == (0, 100) and 40 <= median <= 60


def test_numbers_of_a_file_that_cannot_be() -> None:
    """Impossible packet numbers, two flows or one place twice, change no counts and give no match."""
    flows = Flows()
    for port, seen_by, us in ((1, A, 0), (2, B, 1), (1, A, 2), (1, B, 10_000_000)):
        add(flows, seen_by, us, packet(1, port), 7)
    found = {(as_event(hop)["from"], hop.a, hop.seen_a) for hop in flows.hops()}
    assert found == {
        ("192.0.2.1:1", "a:eth0", 2), ("192.0.2.1:1", "b:eth0", 1), ("192.0.2.1:2", "b:eth0", 1)
    }  # fmt: skip


def test_one_number_twice_at_one_place() -> None:
    """Of equal numbers at one place the first is matched with another place."""
    (hop,) = hops([(A, 0, 1), (A, 50, 1), (B, 100, 1)], ids=True)
    assert hop[3:] == (2, 1, 1, (100, 100, 100))


def test_one_number_long_after() -> None:
    """Equal numbers further apart than packets live are different packets, also in an unordered file."""
    found = hops([(A, 10_000_000, 1), (B, 0, 1)], ids=True)
    assert [(hop.a, hop.b, hop.both) for hop in found] == [("a:eth0", "", 0), ("b:eth0", "", 0)]


def test_bounds() -> None:
    """Too many flows, pairs or packets at once are counted, not kept."""
    for analysis in implementations("analysis"):
        table = analysis.FlowTable(2, 1, 9, 3, 2_000_000)
        for port in range(4):
            for place in (0, 1):
                table.add(make_row(101, packet(1, port), port, 99, place, 0, port + 1))
        assert table.beyond == 4 + 1 and len(table.flows()) == 2
        for number in range(5):
            table.add(make_row(101, packet(number, 0), 9, 99, 0, 0, 100 + number))
        assert table.forgotten == 2, "the two before them were seen at both"


# --- files ---


BROKEN = {
    "empty": (b"", "not a pcapng"),
    "classic": (struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 9, 1), "not a pcapng"),
    "magic": (struct.pack("<III", 0x0A0D0D0A, 28, 5) + bytes(16), "magic"),
    "no interface": (section() + block("<", 3, 0, b""), "interface 3"),
    "length": (section() + struct.pack("<III", 6, 13, 13), "length 13"),
    "a tiny block": (section() + struct.pack("<III", 6, 8, 8), "length 8"),
    "a second section": (section() + struct.pack("<III", 0x0A0D0D0A, 28, 5) + bytes(16), "magic"),
    "a huge block": (section() + struct.pack("<III", 6, 0x7FFFFFFC, 0), "length 2147483644"),
    "two lengths": (section() + struct.pack("<III", 7, 12, 16), "two different lengths, 12 and 16"),
    "a short block": (section() + struct.pack("<III", 6, 12, 12), "too short"),
    "a long packet": (
        section() + interface("<", b"x") + struct.pack("<8I", 6, 32, 0, 0, 0, 9, 9, 32),
        "length 9",
    ),
    "a long option": (section() + interface("<", b"x", struct.pack("<HH", 3, 99)), "an option"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(tmp_path: Path, case: str) -> None:
    """Broken files are named with the reason."""
    data, words = BROKEN[case]
    path = tmp_path / "x.pcapng"
    path.write_bytes(data)
    with pytest.raises(PcapdError, match=words) as broken:
        read([str(path)])
    assert "x.pcapng" in str(broken.value)


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
    """Files that are changed or cut anywhere give packets or an error message."""
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    flows = Flows()
    with contextlib.suppress(BadFile):
        file = io.BytesIO(bytes(data[:end] if end % 2 else data))
        flows.read([(part.rows for part in read_rows(file, flows.place))])
    for hop in flows.hops():
        assert as_line(hop).isprintable() and json.dumps(as_event(hop))


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


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 3), st.integers(0, 400), st.integers(0, 4), st.booleans()
        ),
        max_size=80,
    ),
    st.tuples(
        st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.sampled_from([50, 999])
    ),
)
def test_both_implementations_count_the_same(sightings: Any, bounds: Any) -> None:
    """Both implementations count the same flows, places, delays and excess."""
    rows = b"".join(
        make_row(101, packet(number, port) if port else b"?", us, 99, place, 0, number if named else None)
        for place, port, us, number, named in sightings
    )
    found = []
    for analysis in implementations("analysis"):
        table = analysis.FlowTable(*bounds)
        table.add(rows)
        found.append(
            (
                [tuple(flow) for flow in table.flows()],
                table.packets,
                table.others,
                table.beyond,
                table.forgotten,
            )
        )
    assert all(one == found[0] for one in found)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), max_size=8), max_size=4))
def test_both_implementations_merge_the_same(times: List[List[int]]) -> None:
    """Several files are merged by time, each in its own order, to the end."""
    files = [
        b"".join(make_row(101, b"", us, number, index, 0) for number, us in enumerate(own))
        for index, own in enumerate(times)
    ]
    results = []
    for analysis in implementations("analysis"):
        left, merged = files, b""
        while any(left):
            rows, used = analysis.merge_rows(left)
            assert rows
            left = [part[end:] for part, end in zip(left, used)]
            merged += rows
        results.append(merged)
    assert all(result == results[0] for result in results)
    found = list(rows_of(results[0]))
    for index, own in enumerate(times):
        assert [row.original for row in found if row.interface == index] == list(range(len(own)))
    if all(own == sorted(own) for own in times):
        assert [row.us for row in found] == sorted(us for own in times for us in own)


# --- the command ------------------------------------------------------------------------


def capture_of(path: Path, flows: int, lost: int) -> Path:
    """A file of two places: so many flows of three packets; the last ones lose one packet each."""
    data = section() + interface("<", b"a:eth0") + interface("<", b"b:eth0")
    for number in range(flows):
        for sequence in range(3):
            for place in range(2 if sequence or number < flows - lost else 1):
                sent = packet(sequence, 1000 + number)
                data += block("<", place, number * 1000 + sequence, sent)
    path.write_bytes(data)
    return path


def test_the_sums_and_the_worst_come_first(tmp_path: Path) -> None:
    """Of many flows only the worst are shown, unless all are asked for."""
    path = str(capture_of(tmp_path / "x.pcapng", 50, 2))
    lines = CliRunner().invoke(cli, ["flows", path]).output.splitlines()
    assert lines[:2] == [
        "298 packets, 50 flows, 2 lost between two places",
        "a:eth0 -> b:eth0: 50 flows, 150 packets, 2 lost",
    ]
    assert all(", 1 lost" in line for line in lines[2:4]) and ", 0 lost" in lines[4]
    assert len(lines) == 2 + 20 + 1 and "30 more are shown with --all" in lines[-1]
    assert len(CliRunner().invoke(cli, ["flows", "--all", path]).output.splitlines()) == 2 + 50


def test_a_compressed_file(tmp_path: Path) -> None:
    """A compressed file is read like the plain one; a cut one is refused with a message."""
    path = capture_of(tmp_path / "x.pcapng", 5, 1)
    compressed = tmp_path / "x.pcapng.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    said = [CliRunner().invoke(cli, ["flows", str(name)]).output for name in (path, compressed)]
    assert said[0] == said[1]
    compressed.write_bytes(compressed.read_bytes()[:-20])
    with pytest.raises(PcapdError, match="is incomplete"):
        read([str(compressed)])


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    """``pcapctl flows FILE | head`` ends with 0 and prints only the number of further flows on stderr."""
    path = capture_of(tmp_path / "x.pcapng", 3000, 0)
    command = [sys.executable, "-m", "pcapd.ctl", "flows", "--all", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
