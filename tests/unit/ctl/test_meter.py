"""What a screen has to show: rates, states, drops, and which rows there is room for."""

from __future__ import annotations

from typing import Any

import pytest

from pcapd.ctl.display.progress import HISTORY, Meter, Row, Totals, sums, view
from pcapd.merge.muxer import Account
from pcapd.wire import Source, Stats

NOW = Totals(seconds=5.0)


def account(number: int = 0, *, received: int = 0, **stats: Any) -> Account:
    """A source that has received some packets."""
    made = Account(Source(f"web-{number}", "eth0", 1, 262144, "", clock_offset_us=1500), number, 5)
    made.received, made.bytes = received, 100 * received
    counters = {
        "received": 0,
        "dropped_kernel": 0,
        "dropped_interface": 0,
        "delivered": 0,
        "captured_up_to_us": 0,
    }
    made.stats = Stats(**{**counters, **stats})
    return made


def test_rates() -> None:
    """Packets per second between samples; the rate to be read is that of the last two."""
    meter, source = Meter(), account(received=100)
    meter.sample({1: source}, 10.0)
    assert meter.rates(1) == () and meter.rates(2) == ()
    for received, now in ((600, 10.5), (600, 11.0)):
        source.received = received
        meter.sample({1: source}, now)
    assert meter.rates(1) == (1000.0, 0.0)
    (row,) = view({1: source}, (), meter, NOW, 9).rows
    assert row.rate == 500.0 and Row("x", "open").rate == 0.0


def test_the_history_is_bounded() -> None:
    """The history is bounded, and a clock that stands still is no division by zero."""
    meter, source = Meter(), account()
    for step in range(100):
        meter.sample({1: source}, float(step // 2))
    assert len(meter.rates(1)) == HISTORY


@pytest.mark.parametrize(
    ("stats", "stopping", "state", "bad"),
    [
        ({}, "", "open", False),
        ({}, "interrupted", "stopping", False),
        ({"final": True}, "", "closed", False),
        ({"final": True, "exact": False}, "", "lost", True),
        ({"dropped_kernel": 1}, "", "open", True),
        ({"dropped_interface": 1}, "", "open", True),
    ],
)
def test_states(stats: dict[str, Any], stopping: str, state: str, bad: bool) -> None:
    """Each state of a source follows from its counters."""
    shown = view({1: account(**stats)}, (), Meter(), Totals(stopping=stopping), 9)
    (row,) = shown.rows
    assert (row.state, row.bad) == (state, bad)
    assert shown.all is None, "one row is its own sum"


def test_an_instance_that_failed() -> None:
    """An instance that failed has a row until a source of it opens."""
    accounts = {1: account(0)}
    shown = view(accounts, ["web-1", "web-0"], Meter(), NOW, 9)
    assert [(row.name, row.state) for row in shown.rows] == [("web-0:eth0", "open"), ("web-1", "failed")]
    assert shown.all is not None and shown.all.name == "all"


def test_the_worst_and_the_busiest() -> None:
    """With little room the worst and busiest sources are shown in the order of opening, with sums of the rest."""
    meter = Meter()
    accounts = {number: account(number) for number in range(200)}
    meter.sample(accounts, 0.0)
    for number, source in accounts.items():
        source.received = number
    accounts[7].stats = Stats(9, 3, 0, 6, 0)
    accounts[50].stats = Stats(9, 0, 0, 9, 0, final=True, exact=False)
    meter.sample(accounts, 1.0)
    shown = view(accounts, (), meter, NOW, 4)
    assert [row.name for row in shown.rows] == ["web-7:eth0", "web-50:eth0", "web-198:eth0", "web-199:eth0"]
    assert shown.hidden is not None and shown.all is not None
    assert shown.hidden.rows == 196
    assert (
        shown.all.packets
        == sum(range(200))
        == shown.hidden.sums.packets + sum(row.packets for row in shown.rows)
    )
    assert sum(shown.all.drops) == shown.all.drops[0] == 3 and not any(shown.hidden.sums.drops)
    # What a lost agent dropped last nobody knows.
    assert [row.more for row in (*shown.rows, shown.all, shown.hidden.sums)] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_sums_of_rates_of_different_ages() -> None:
    """Rates of different ages are added from the latest sample on."""
    total = sums("all", [Row("a", "open", rates=(1.0, 2.0, 3.0)), Row("b", "open", rates=(10.0,))])
    assert total.rates == (1.0, 2.0, 13.0)


def test_what_is_not_counted_is_not_0() -> None:
    """Drops that nobody counts are unknown; the sum of all rows is unknown, or what is known at least."""
    accounts = {1: account(1, counted=False), 2: account(2)}
    shown = view(accounts, (), Meter(), NOW, 9)
    assert [row.drops[:2] for row in shown.rows] == [(None, None), (0, 0)]
    assert not any(row.bad for row in shown.rows)
    assert shown.all is not None and shown.all.drops[:2] == (None, None)
    accounts[2] = account(2, received=9, dropped_kernel=7)
    shown = view(accounts, (), Meter(), NOW, 1)
    assert [row.name for row in shown.rows] == ["web-2:eth0"]
    assert shown.all is not None and (shown.all.drops[:2], shown.all.more) == ((7, None), True)
