"""The numbers of a running capture that are shown on the screen.  No I/O, no clock.

`Meter` samples the accounts a few times a second and computes rates; `view` selects
what is shown, and `pcapd.ctl.display.table` formats it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, Iterable, List, NamedTuple, Optional, Tuple

from pcapd.merge.muxer import Account

__all__ = ["CLOCK_OFF_US", "DROPS", "HISTORY", "Hidden", "Meter", "Row", "Totals", "View", "sums", "view"]


class Drop(NamedTuple):
    """A place where packets are dropped, and its counter.

    Attributes:
        count: Returns the counter of a source.
        always: Whether the counter is shown even while it is 0.
        there: Whether the program that captures counts these drops, if it counts any.
    """

    place: str
    count: Callable[[Account], int]
    always: bool = False
    there: bool = False


#: The places; the kernel, where most drops happen, is the first.
DROPS = (
    Drop("kernel", lambda account: account.known.kernel, always=True, there=True),
    Drop("interface", lambda account: account.known.interface, always=True, there=True),
    Drop("agent", lambda account: account.known.agent),
    Drop("api", lambda account: account.known.api),
    Drop("client", lambda account: account.known.client),
)

#: Number of rates kept for each source.
HISTORY = 8
#: microseconds; a larger clock offset causes a warning.
CLOCK_OFF_US = 100_000
#: Largest number of failed instances that get a row.
_FAILED_MAX = 1000


class _Samples:
    def __init__(self, account: Account, now: float) -> None:
        self.rates: Deque[float] = deque(maxlen=HISTORY)
        self.packets = account.received
        self.at = now


class Meter:
    """Measures the sources' rates."""

    def __init__(self) -> None:
        self._samples: Dict[int, _Samples] = {}

    def sample(self, accounts: Dict[int, Account], now: float) -> None:
        """Compute the rates from the counters, several times a second.

        Args:
            accounts: The sources' counters, by source id.
            now: The time of a monotonic clock, seconds.
        """
        for number, account in accounts.items():
            samples = self._samples.get(number)
            if samples is None:
                self._samples[number] = _Samples(account, now)
            elif now > samples.at:
                samples.rates.append((account.received - samples.packets) / (now - samples.at))
                samples.packets, samples.at = account.received, now

    def rates(self, number: int) -> Tuple[float, ...]:
        """The latest rates of a source in packets per second, newest last; empty before the second sample."""
        samples = self._samples.get(number)
        return tuple(samples.rates) if samples is not None else ()


@dataclass(frozen=True)
class Row:
    """One source, or one instance without a source.

    Attributes:
        state: ``open``, ``stopping``, ``closed``, ``lost``, ``failed``.
        rates: The latest rates in packets per second, newest last.
        drops: Numbers of dropped packets, in the order of `DROPS`; None if they are not counted.
        clock_us: The agent's clock minus the api's, microseconds; None if unknown.
        more: Whether more packets may have been dropped than are counted.
    """

    name: str
    state: str
    packets: int = 0
    bytes: int = 0
    rates: Tuple[float, ...] = ()
    drops: Tuple[Optional[int], ...] = (0,) * len(DROPS)
    clock_us: Optional[int] = None
    more: bool = False

    @property
    def rate(self) -> float:
        """The present rate in packets per second, the mean of two, so that it can be read."""
        latest = self.rates[-2:]
        return sum(latest) / len(latest) if latest else 0.0

    @property
    def bad(self) -> bool:
        """Whether packets of this source are missing from the file."""
        return any(self.drops) or self.state in ("lost", "failed")


class Hidden(NamedTuple):
    """The rows that do not fit on the screen: their number, and their sums."""

    rows: int
    sums: Row


@dataclass(frozen=True)
class Totals:
    """The state of the capture as a whole.

    Attributes:
        seconds: Seconds since the first source was opened; None before.
        duration: Longest duration of the capture in seconds; None without a limit.
        size: Size of the file in bytes.
        written: Number of packets in the file.
        awaited: Number of instances that have neither opened a source nor failed.
        stopping: Why the capture is stopping; empty while it continues.
        waiting: The text shown while it is stopping, in parts (`report.waiting_parts`).
        findings: The number of findings so far, as text; empty without ``--explain``.
    """

    seconds: Optional[float] = None
    duration: Optional[float] = None
    size: int = 0
    max_size: Optional[int] = None
    written: int = 0
    max_packets: Optional[int] = None
    awaited: int = 0
    stopping: str = ""
    waiting: Tuple[str, ...] = ()
    findings: str = ""


@dataclass(frozen=True)
class View:
    """The content of the table.

    Attributes:
        rows: The rows shown, in the order in which the sources were opened.
        hidden: The rows that do not fit; None if all fit.
        all: The sums of all rows; None for a single row.
    """

    rows: Tuple[Row, ...]
    hidden: Optional[Hidden]
    all: Optional[Row]
    progress: Totals


def view(
    accounts: Dict[int, Account], failed: Iterable[str], meter: Meter, progress: Totals, places: int
) -> View:
    """Select the content of the table for a capture.

    Args:
        accounts: The sources' counters, by source id.
        failed: Instances that could not be captured.
        places: Number of rows that fit.
    """
    rows = [_row(account, meter.rates(number), progress) for number, account in accounts.items()]
    captured = {account.source.instance for account in accounts.values()}
    rows += [Row(name, "failed") for name in list(failed)[:_FAILED_MAX] if name not in captured]
    shown, hidden = _choose(rows, places)
    return View(tuple(shown), hidden, sums("all", rows) if len(rows) > 1 else None, progress)


def sums(name: str, rows: List[Row]) -> Row:
    """A row with the sums of many rows."""
    length = max((len(row.rates) for row in rows), default=0)
    padded = [(0.0,) * (length - len(row.rates)) + row.rates for row in rows]
    return Row(
        name=name,
        state="",
        packets=sum(row.packets for row in rows),
        bytes=sum(row.bytes for row in rows),
        rates=tuple(map(sum, zip(*padded))),
        drops=tuple(map(_sum, zip(*(row.drops for row in rows)))),
        more=any(row.more for row in rows),
    )


def _sum(counts: Tuple[Optional[int], ...]) -> Optional[int]:
    """The sum of the known numbers; None if it is 0, but others are unknown."""
    return sum(filter(None, counts)) or (None if None in counts else 0)


def _choose(rows: List[Row], places: int) -> Tuple[List[Row], Optional[Hidden]]:
    """The rows to show: if not all fit, those with drops or failures, then those with the highest rates."""
    if len(rows) <= places:
        return rows, None
    order = sorted(
        range(len(rows)),
        key=lambda index: (
            rows[index].bad,
            sum(filter(None, rows[index].drops)),
            rows[index].rate,
            rows[index].packets,
        ),
        reverse=True,
    )
    chosen = set(order[:places])
    rest = [row for index, row in enumerate(rows) if index not in chosen]
    return [row for index, row in enumerate(rows) if index in chosen], Hidden(len(rest), sums("", rest))


def _row(account: Account, rates: Tuple[float, ...], progress: Totals) -> Row:
    stats = account.stats
    if stats.final:
        state = "closed" if stats.exact else "lost"
    else:
        state = "stopping" if progress.stopping else "open"
    return Row(
        name=account.name,
        state=state,
        packets=account.received,
        bytes=account.bytes,
        rates=rates,
        drops=tuple(None if drop.there and not stats.counted else drop.count(account) for drop in DROPS),
        more=not account.traced,
        clock_us=account.source.clock_offset_us,
    )
