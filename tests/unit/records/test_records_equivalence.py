"""The compiled functions do exactly what the reference does."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapd.packet.headers import LINKS
from pcapd.records import SHIFT_MAX, _reference
from tests.kit.implementations import outcome
from tests.kit.record_samples import batches, honest_batches, interfaces, limits, meta, record, u32

_native = pytest.importorskip("pcapd.records._native", reason="the compiled module is not built")

# tests/fuzz goes on for longer.
thorough = settings(max_examples=120, deadline=None)


@st.composite
def next_batches(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Packets and metadata that mostly, but not always, fit together."""
    packets = draw(st.binary(max_size=60))
    inside = st.integers(0, max(1, len(packets) // 2))
    entry = st.tuples(u32(), u32(), inside, inside) | st.tuples(u32(), u32(), u32(), u32())
    entries = draw(
        st.lists(st.tuples(u32(), u32(), inside, inside), max_size=10) | st.lists(entry, max_size=4)
    )
    return packets, meta(*entries) + draw(st.sampled_from([b"", b"", b"", b"x", bytes(15)]))


@thorough
@given(next_batches(), limits, limits)
def test_pack_is_the_same(given: tuple[bytes, bytes], snaplen: int, limit: int) -> None:
    """pack gives equal batches and equal errors, whatever the capture library hands over."""
    args = (*given, snaplen, limit)
    assert outcome(_native.pack, *args) == outcome(_reference.pack, *args)


#: Starts of packets, so that what is random comes where headers are.
_STARTS = [
    b"",
    bytes(12) + b"\x08\x00\x45",
    bytes(12) + b"\x86\xdd\x60",
    bytes(12) + b"\x81\x00\x00\x01\x08\x00\x46",
    bytes(12) + b"\x86\xdd\x60\0\0\0\0\0\x2c" + bytes(33),
    bytes(12) + b"\x08\x06\x00\x01\x08\x00\x06\x04",
    b"\x45",
    b"\x60",
    b"\x08\x00" + bytes(18) + b"\x45",
    bytes(14) + b"\x86\xdd\x60",
]
_protocols = st.sampled_from([0, 1, 6, 17, 43, 44, 51, 58, 59, 60, 132, 135, 255]).map(lambda n: bytes([n]))
_packets = st.builds(
    lambda start, middle, rest: start + b"".join(middle) + rest,
    st.sampled_from(_STARTS),
    st.lists(
        st.binary(max_size=9) | _protocols | st.sampled_from([b"\0" * 8, b"\x50", b"\xf0"]), max_size=20
    ),
    st.binary(max_size=60),
)


@settings(thorough, max_examples=400)
@given(st.lists(_packets, max_size=4), st.sampled_from([*sorted(LINKS), -1, 0, 9]), limits)
def test_headers_are_the_same(packets: list[bytes], link_type: int, snaplen: int) -> None:
    """Both implementations cut every packet at the same place."""
    entries = []
    offset = 0
    for packet in packets:
        entries.append((1, 2, offset, len(packet)))
        offset += len(packet)
    args = (b"".join(packets), meta(*entries), snaplen, 100, link_type)
    assert outcome(_native.pack, *args) == outcome(_reference.pack, *args)


@settings(thorough, max_examples=400)
@given(st.lists(st.tuples(_packets, st.integers(0, 99)), max_size=4), st.sampled_from([*sorted(LINKS), 2]))
def test_rows_are_the_same(packets: list[tuple[bytes, int]], link_type: int) -> None:
    """Both implementations describe every packet by the same row."""
    batch = b"".join(record(7, packet, len(packet) + more) for packet, more in packets)
    args = (batch, link_type, 3)
    assert outcome(_native.rows, *args) == outcome(_reference.rows, *args)


@thorough
@given(batches, st.sampled_from([1, 101, -1, 2**32]), interfaces)
def test_rows_of_any_bytes_are_the_same(batch: bytes, link_type: int, interface: int) -> None:
    """Both implementations give the same rows or errors for any bytes."""
    args = (batch, link_type, interface)
    assert outcome(_native.rows, *args) == outcome(_reference.rows, *args)


@thorough
@given(batches, limits | u32())
def test_check_is_the_same(batch: bytes, max_captured: int) -> None:
    """check finds equal numbers and equal lies in any bytes."""
    assert outcome(_native.check, batch, max_captured) == outcome(_reference.check, batch, max_captured)


@given(
    st.sampled_from([bytearray, memoryview, lambda data: memoryview(bytearray(data))]),
    honest_batches,
)
def test_any_bytes_like_object_will_do(wrap: Callable[[bytes], Any], batch: bytes) -> None:
    """bytearrays and memoryviews give what bytes give, in both implementations."""
    for module in (_native, _reference):
        assert outcome(module.check, wrap(batch), 99) == outcome(module.check, batch, 99)
        assert module.rows(wrap(batch), 1, 0) == module.rows(batch, 1, 0)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("pack", ("text", b"", 1, 1)),
        ("pack", (b"", None, 1, 1)),
        ("pack", (b"", b"", 1.0, 1)),
        ("check", (7, 1)),
        ("check", (b"",)),
        ("check", (b"", "1")),
        ("rows", ("text", 1, 0)),
        ("rows", (b"", 1)),
        ("rows", (b"", None, 0)),
        ("rows", (b"", 1, -1)),
    ],
)
def test_wrong_types_are_refused_alike(name: str, args: tuple[object, ...]) -> None:
    """A mistake of the caller raises the same kind of error in both."""
    raised, _ = outcome(getattr(_native, name), *args)
    assert raised in (TypeError, ValueError)
    assert raised is outcome(getattr(_reference, name), *args)[0]


def test_keywords_are_the_same() -> None:
    """Both implementations have the same argument names."""
    for module in (_native, _reference):
        assert module.pack(packets=b"", meta=b"", snaplen=1, limit=1) == []
        assert module.check(records=bytes(16), max_captured=0).packets == 1
        assert module.rows(records=b"", link_type=1, interface=0) == b""


@thorough
@given(
    batches,
    st.integers(-(2**34), 2**34) | st.sampled_from([0, -SHIFT_MAX, SHIFT_MAX, SHIFT_MAX + 1]),
)
def test_shift_is_the_same(batch: bytes, us: int) -> None:
    """Times move by as much, and the same batches are refused."""
    assert outcome(_native.shift, batch, us) == outcome(_reference.shift, batch, us)
