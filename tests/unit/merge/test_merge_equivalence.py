"""The compiled functions of pcapd.merge do exactly what the reference does."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapd.merge import _reference
from pcapd.packet.row import make_row
from tests.kit.implementations import outcome
from tests.kit.packets import ethernet, ipv4, udp
from tests.kit.record_samples import batches, forms, honest_batches, interfaces, limits, moments, record

_native = pytest.importorskip("pcapd.merge._native", reason="the compiled module is not built")

# tests/fuzz goes on for longer.
thorough = settings(max_examples=120, deadline=None)

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


#: Few different packets, so that equal ones are common; some are not IP.
_frames = st.integers(0, 5).map(lambda number: ethernet(ipv4(udp(bytes([number]))))) | st.binary(max_size=20)
_sighted = st.builds(record, st.integers(1_000_000, 1_000_400), _frames)
_matched_sources = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(st.lists(_sighted, max_size=6).map(b"".join), max_size=3),
        honest_gaps,
        st.just(1),
        st.sampled_from([0, 1, 2, 63, 64, 65, 200]),
    ),
    max_size=5,
)


@settings(thorough, max_examples=300)
@given(
    st.lists(_matched_sources, min_size=1, max_size=3),
    st.booleans(),
    st.tuples(st.integers(0, 9), st.sampled_from([0, 50, 10**6]), st.integers(1, 12)),
    st.sampled_from([0, 1]),
    st.integers(0, 30) | st.just(2**40),
    st.integers(0, 900) | st.just(2**40),
)
def test_matching_is_the_same(
    calls: Any, dedupe: bool, remember: Any, form: int, packets: int, size: int
) -> None:
    """merge gives packets equal numbers and leaves out equal ones, from call to call."""
    matchers = _native.Matcher(*remember), _reference.Matcher(*remember)
    for sources in calls:
        args = (sources, 1_000_300, 0, form, packets, size)
        native, reference = (
            outcome(module.merge, *args, matcher, dedupe)
            for module, matcher in zip((_native, _reference), matchers)
        )
        assert native == reference
    assert matchers[0].forgotten == matchers[1].forgotten


@settings(thorough, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 300), st.integers(0, 5)), max_size=300),
    st.tuples(st.integers(0, 9), st.sampled_from([0, 50, 10**6]), st.integers(1, 40) | st.just(10**6)),
)
def test_sightings_are_the_same(sightings: list[tuple[int, int, int]], remember: Any) -> None:
    """A matcher gives equal numbers, one by one and for rows."""
    native, reference = _native.Matcher(*remember), _reference.Matcher(*remember)
    for place, us, content in sightings:
        assert native.see(place, us, content) == reference.see(place, us, content)
    rows = b"".join(
        make_row(1, ethernet(ipv4(udp(bytes([content])))), us, 99, place, 0, 7 if content == 3 else None)
        for place, us, content in sightings
    )
    assert native.number(rows) == reference.number(rows)
    assert native.forgotten == reference.forgotten


def test_many_packets_are_remembered_alike() -> None:
    """More packets than the first tables hold are remembered alike, equal ones among them."""
    chance = random.Random(1)
    native, reference = (module.Matcher(1, 10**6, 20_000) for module in (_native, _reference))
    for us in range(60_000):
        content = chance.choice([chance.randint(0, 2**64 - 1), us // 700, 5])
        place = chance.randint(0, 3)
        assert native.see(place, us, content) == reference.see(place, us, content)
    assert native.forgotten == reference.forgotten > 0


@pytest.mark.parametrize(
    ("name", "args"),
    [
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
        ("merge", ([(0, [], [], "1")], 1, 1, 0, 1, 1)),
        ("merge", ([(0, [], [], 1, -1)], 1, 1, 0, 1, 1)),
        ("merge", ([], 1, 1, 0, 1, 1, "matcher")),
        ("Matcher", (1, 1)),
        ("Matcher", (-1, 1, 1)),
        ("Matcher", (1, -1, 1)),
        ("Matcher", (1, 1, 0)),
    ],
)
def test_wrong_types_are_refused_alike(name: str, args: tuple[object, ...]) -> None:
    """A mistake of the caller raises the same kind of error in both."""
    raised, _ = outcome(getattr(_native, name), *args)
    assert raised in (TypeError, ValueError)
    assert raised is outcome(getattr(_reference, name), *args)[0]


@pytest.mark.parametrize("rows", [b"x", bytes(103), bytes(105)])
def test_rows_that_are_not_whole(rows: bytes) -> None:
    """Rows that are not whole are refused with equal messages."""
    native, reference = (outcome(module.Matcher(1, 1, 1).number, rows) for module in (_native, _reference))
    assert native == reference and native[0] is ValueError


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
