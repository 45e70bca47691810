"""Files of anybody are read: their packets, and what is known of each; broken ones are named."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapd.packet.row import rows_of
from pcapd.savefile import blocks
from pcapd.savefile import reader as reader_module
from pcapd.savefile._reference import packed_interfaces
from pcapd.savefile.reader import BadFile, FileInterface, Reader, read_file, read_rows
from tests.kit.files import block, interface, obsolete, section, simple
from tests.kit.implementations import implementations, outcome
from tests.kit.packets import ipv4, udp


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_other_programs(order: str) -> None:
    """Files with either byte order, any resolution, an offset, several sections and unknown blocks are read."""
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
    data = blocks.section_header("pcapd") + blocks.interface_description(
        "a/0:eth0", 1, 262144, "d", "udp", ["192.0.2.7/24", "2001:db8::7/64"]
    )
    whole = data + block("<", 0, 7, b"abcd")
    (found,) = read_file(io.BytesIO(whole + block("<", 0, 8, b"x")[:-3]))
    assert found.interface.name == "a/0:eth0" and found.us == 7
    assert [len(address) for address in found.interface.addresses] == [4, 16]


def test_what_stands_behind_the_end_of_options() -> None:
    """Bytes behind the end of options are not an option."""
    identity = struct.pack("<HHQ", 5, 8, 77)
    data = section() + interface("<", b"x") + block("<", 0, 7, b"abcd", bytes(4) + identity)
    assert [each.packet_id for each in Reader().packets(data)] == [None]


def test_so_many_interfaces_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but interfaces is bounded in memory."""
    monkeypatch.setattr(reader_module, "FILE_INTERFACES_MAX", 3)
    good, bad = (section() + interface("<", b"x") * count for count in (3, 4))
    assert list(Reader().packets(good)) == []
    with pytest.raises(BadFile, match="more than 3 interfaces"):
        list(Reader().packets(bad))


@pytest.mark.parametrize("end", [11, 27, 29, 39])
def test_blocks_that_are_not_whole(end: int) -> None:
    """A file that ends within a block is refused."""
    data = (section() + interface("<", b"x"))[:end]
    with pytest.raises(BadFile, match="ends within a block"):
        list(Reader().packets(data))


@pytest.mark.parametrize("order", ["<", ">"])
def test_simple_and_obsolete_packets(order: str) -> None:
    """Simple and obsolete packet blocks are read; a simple one is of the first interface and has no time."""
    data = section(order) + interface(order, b"one") + interface(order, b"two")
    data += obsolete(order, 1, 4, 9, b"abc") + obsolete(order, 0, 0xFFFF, 8, b"") + simple(order, b"defg", 99)
    found = list(read_file(io.BytesIO(data)))
    assert [(each.interface.name, each.us, each.data, each.length, each.drops) for each in found] == [
        ("two", 9, b"abc", 3, 4), ("one", 8, b"", 0, 0), ("one", 0, b"defg", 99, 0)
    ]  # fmt: skip


def test_a_simple_packet_is_cut_at_the_snaplen() -> None:
    """A simple packet is cut at the snaplen, since its block has no captured length (section 4.4)."""
    body = struct.pack("<HHI", 101, 0, 5)
    described = struct.pack("<II", 1, 20) + body + struct.pack("<I", 20)
    found = list(Reader().packets(section() + described + simple("<", b"abcdef", 60) + simple("<", b"abc")))
    assert [each.data for each in found] == [b"abcde", b"abc"]


def rows_in(data: bytes) -> Tuple[List[Tuple[int, ...]], List[str]]:
    """The rows of a file but for where their packets are, and the names of its interfaces."""
    names: List[str] = []

    def place(found: FileInterface) -> int:
        names.append(found.name)
        return len(names) - 1

    rows = []
    for part in read_rows(io.BytesIO(data), place):
        for row in rows_of(part.rows):
            packet = part.data[row.at : row.at + row.captured]
            rows.append((row.interface, row.us, packet, row.original, row.number, row.drops))
    return rows, names


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [64, 2**20])
def test_rows_of_a_file(order: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a file equal what `read_file` yields, however the file is cut into parts."""
    monkeypatch.setattr(reader_module, "FILE_READ_SIZE", size)
    options = struct.pack(f"{order}HHQHHQ", 5, 8, 77, 4, 8, 2**40) + bytes(4)
    nanos = struct.pack(f"{order}HHBxxx", 9, 1, 9)
    slow = struct.pack(f"{order}HHBxxx", 9, 1, 127)  # ticks that no machine word holds
    data = section(order) + interface(order, b"one", nanos) + interface(order, b"two", slow)
    data += block(order, 0, 5_000_000_123, b"abc", options) + struct.pack(f"{order}III", 0xBAD, 12, 12)
    data += block(order, 1, 2**63, b"d") + obsolete(order, 0, 1, 9000, b"ef") + simple(order, b"ghi", 9)
    data += section("<") + interface("<", b"three") + block("<", 0, 2**63, b"x")
    rows, names = rows_in(data)
    assert names == ["one", "two", "three"]
    packets = [(each.us, each.data, each.length, each.packet_id or 0) for each in read_file(io.BytesIO(data))]
    assert [(us, packet, length, number) for _, us, packet, length, number, _ in rows] == packets
    assert [row[0] for row in rows] == [0, 1, 0, 0, 2]
    assert [row[5] for row in rows] == [2**32 - 1, 0, 1, 0, 0]
    assert rows[-1][1] == blocks.US_MAX, "a time that cannot be is the latest one"


_U32 = st.sampled_from([0, 1, 3, 4, 12, 28, 32, 33, 2**31, 2**32 - 1])
_WHOLE = [
    block("<", 0, 5, ipv4(udp(b"x")), struct.pack("<HHQHHQ", 5, 8, 77, 4, 8, 9) + bytes(4)),
    block("<", 1, 2**63, b"abc"), simple("<", b"abcde", 9), obsolete("<", 1, 7, 8, b"ab"),
    struct.pack("<III", 0xBAD, 12, 12),
]  # fmt: skip


@st.composite
def _stretches(draw: st.DrawFn) -> bytes:
    """Packet blocks in which fields were overwritten, and whose end may be gone."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(_WHOLE), max_size=6))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(0, len(data) // 4 - 1))) * 4
        data[at : at + 4] = struct.pack("<I", draw(_U32))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=300, deadline=None)
@given(
    data=_stretches() | st.binary(max_size=60),
    position=st.just(0) | st.integers(-1, 90),
    big=st.booleans(),
    table=st.lists(
        st.builds(
            FileInterface, st.just(""), st.sampled_from([1, 101, 9999]),
            st.sampled_from([1_000_000, 10**9, 1024, 1, 10**30]), st.sampled_from([0, 5, -(10**30), 10**30]),
            st.just(()), st.sampled_from([0, 3]),
        ),
        max_size=3,
    ),
)  # fmt: skip
def test_both_implementations_read_the_same(data: bytes, position: int, big: bool, table: Any) -> None:
    """Both implementations give the same rows, ends and errors for any bytes."""
    packed = packed_interfaces(table, range(7, 10))
    results = [
        outcome(module.packet_rows, data, position, big, packed) for module in implementations("savefile")
    ]
    assert all(result == results[0] for result in results)


@given(data=st.binary(max_size=300))
def test_garbage_behind_a_header(data: bytes) -> None:
    """Both implementations give the same rows, ends and errors for garbage behind a header."""
    try:
        assert isinstance(list(read_file(io.BytesIO(section() + interface("<", b"x") + data))), list)
    except BadFile as error:
        assert error.message
