"""The compiled functions do exactly what the reference does."""

from __future__ import annotations

import random
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_samples import batches, forms, honest_batches, interfaces, limits, meta, moments, record, u32

from pcapd.records import _reference
from pcapd.records._headers import LINK_TYPES

_native = pytest.importorskip("pcapd.records._native", reason="the compiled module is not built")

# tests/fuzz goes on for longer.
thorough = settings(max_examples=120, deadline=None)


def outcome(function: Callable[..., Any], *args: object) -> tuple[object, object]:
    """The result with its type, or the error with its words."""
    try:
        result = function(*args)
    except Exception as error:
        return type(error), str(error)
    return type(result), result


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
@given(st.lists(_packets, max_size=4), st.sampled_from([*sorted(LINK_TYPES), -1, 0, 9]), limits)
def test_headers_are_the_same(packets: list[bytes], link_type: int, snaplen: int) -> None:
    """Both cut every packet at the same place."""
    entries = []
    offset = 0
    for packet in packets:
        entries.append((1, 2, offset, len(packet)))
        offset += len(packet)
    args = (b"".join(packets), meta(*entries), snaplen, 100, link_type)
    assert outcome(_native.pack, *args) == outcome(_reference.pack, *args)


@thorough
@given(batches, limits | u32())
def test_check_is_the_same(batch: bytes, max_captured: int) -> None:
    """check finds equal numbers and equal lies in any bytes."""
    assert outcome(_native.check, batch, max_captured) == outcome(_reference.check, batch, max_captured)


@thorough
@given(batches, interfaces, forms, limits, limits)
def test_render_is_the_same(batch: bytes, interface: int, form: int, packets: int, size: int) -> None:
    """render gives equal bytes and equal errors for any bytes and any limits."""
    args = (batch, interface, form, packets, size)
    assert outcome(_native.render, *args) == outcome(_reference.render, *args)


sources = st.lists(
    st.tuples(interfaces, st.lists(honest_batches | honest_batches | batches, max_size=3)), max_size=5
)
honest_sources = st.lists(st.tuples(st.integers(0, 9), st.lists(honest_batches, max_size=4)), max_size=6)


@thorough
@given(sources, moments, moments, forms, limits, limits)
def test_merge_is_the_same(sources: Any, until: int, last: int, form: int, packets: int, size: int) -> None:
    """merge gives equal results and equal errors for any sources and any limits."""
    args = (sources, until, last, form, packets, size)
    assert outcome(_native.merge, *args) == outcome(_reference.merge, *args)


@thorough
@given(
    honest_sources,
    st.integers(999_999, 1_000_013),
    st.integers(0, 1_000_013),
    st.sampled_from([0, 1]),
    st.integers(0, 30) | st.just(2**40),
    st.integers(0, 900) | st.just(2**40),
)
def test_merge_of_honest_sources_is_the_same(
    sources: Any, until: int, last: int, form: int, packets: int, size: int
) -> None:
    """merge agrees on order, ties and rests when nothing is wrong with the input."""
    args = (sources, until, last, form, packets, size)
    assert outcome(_native.merge, *args) == outcome(_reference.merge, *args)


gaps = st.lists(
    st.tuples(
        st.integers(999_998, 1_000_014) | moments,
        st.integers(0, 9) | st.sampled_from([2**32, 2**63 - 1, 2**63 - 1, 2**63, -1]),
    ),
    max_size=5,
)
honest_gaps = st.lists(st.tuples(st.integers(999_998, 1_000_014), st.integers(0, 2**40)), max_size=5).map(
    sorted
)


@thorough
@given(batches, gaps | honest_gaps, forms, limits, limits)
def test_render_with_gaps_is_the_same(
    batch: bytes, gaps: list[tuple[int, int]], form: int, packets: int, size: int
) -> None:
    """render tells of lost packets in equal bytes, whatever was lost when."""
    args = (batch, 1, form, packets, size, gaps)
    assert outcome(_native.render, *args) == outcome(_reference.render, *args)


@thorough
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(honest_batches, max_size=4), gaps | honest_gaps)
        | st.tuples(st.integers(0, 9), st.lists(honest_batches, max_size=4), honest_gaps),
        max_size=6,
    ),
    st.integers(999_999, 1_000_013),
    st.sampled_from([0, 1]),
    st.integers(0, 30) | st.just(2**40),
    st.integers(0, 900) | st.just(2**40),
)
def test_merge_with_gaps_is_the_same(sources: Any, until: int, form: int, packets: int, size: int) -> None:
    """merge tells of lost packets in equal bytes, and of as many gaps."""
    args = (sources, until, 0, form, packets, size)
    assert outcome(_native.merge, *args) == outcome(_reference.merge, *args)


@given(
    st.sampled_from([bytearray, memoryview, lambda data: memoryview(bytearray(data))]),
    honest_batches,
)
def test_any_bytes_like_object_will_do(wrap: Callable[[bytes], Any], batch: bytes) -> None:
    """bytearrays and memoryviews give what bytes give, in both implementations."""
    for module in (_native, _reference):
        assert outcome(module.check, wrap(batch), 99) == outcome(module.check, batch, 99)
        assert module.render(wrap(batch), 1, 0, 9, 999) == module.render(batch, 1, 0, 9, 999)
        chunks = [wrap(batch), wrap(batch)]
        assert module.merge([(1, chunks)], 1_000_005, 0, 1, 9, 999) == module.merge(
            [(1, [batch, batch])], 1_000_005, 0, 1, 9, 999
        )


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("pack", ("text", b"", 1, 1)),
        ("pack", (b"", None, 1, 1)),
        ("pack", (b"", b"", 1.0, 1)),
        ("check", (7, 1)),
        ("check", (b"",)),
        ("check", (b"", "1")),
        ("render", ("text", 0, 0, 1, 1)),
        ("render", (b"", 0, None, 1, 1)),
        ("merge", ([], 1, 1, 0, 1)),
        ("merge", (7, 1, 1, 0, 1, 1)),
        ("merge", ([7], 1, 1, 0, 1, 1)),
        ("merge", ([(0, 7)], 1, 1, 0, 1, 1)),
        ("merge", ([(0, b"chunk")], 1, 1, 0, 1, 1)),
        ("merge", ([(0, ["text"])], 1, 1, 0, 1, 1)),
        ("merge", ([("0", [b""])], 1, 1, 0, 1, 1)),
        ("merge", ([(0, [], 1)], 1, 1, 0, 1, 1)),
        ("merge", ([(0, [], [7])], 1, 1, 0, 1, 1)),
        ("merge", ([(0, [], [(7,)])], 1, 1, 0, 1, 1)),
        ("merge", ([(0, [], [(7, "8")])], 1, 1, 0, 1, 1)),
        ("render", (b"", 0, 0, 1, 1, 7)),
        ("render", (b"", 0, 0, 1, 1, [(1, 2, 3)])),
    ],
)
def test_wrong_types_are_refused_alike(name: str, args: tuple[object, ...]) -> None:
    """A mistake of the caller raises the same kind of error in both."""
    raised, _ = outcome(getattr(_native, name), *args)
    assert raised in (TypeError, ValueError)
    assert raised is outcome(getattr(_reference, name), *args)[0]


def test_keywords_are_the_same() -> None:
    """Arguments can be given by the same names in both."""
    for module in (_native, _reference):
        assert module.pack(packets=b"", meta=b"", snaplen=1, limit=1) == []
        assert module.check(records=bytes(16), max_captured=0).packets == 1
        assert module.render(records=b"", interface=0, form=0, max_packets=1, max_bytes=1).packets == 0
        assert not module.merge(sources=[], until_us=0, last_us=0, form=0, max_packets=1, max_bytes=1).full


@pytest.mark.parametrize("disorder", [0, 3, 10_000])
def test_thousands_of_records_are_the_same(disorder: int) -> None:
    """merge agrees on inputs that outgrow its first allocation, in order, nearly so and not at all."""
    chance = random.Random(disorder)
    many = [
        (
            source,
            [
                b"".join(
                    record(10**6 + 9 * n + chance.randint(0, disorder), bytes(n % 7))
                    for n in range(500 * chunk, 500 * chunk + 500)
                )
                for chunk in range(4)
            ],
        )
        for source in range(7)
    ]
    for bounds in ((2**40, 2**40), (5_000, 2**40), (2**40, 99_999)):
        args = (many, 10**6 + 15_000, 10**6 + 500, 1, *bounds)
        assert outcome(_native.merge, *args) == outcome(_reference.merge, *args)
