"""The numbers that the screen shows of a running capture.  No I/O, no clock.

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
        always: Show the counter even while it is 0.
    """

    place: str
    count: Callable[[Account], int]
    always: bool = False


#: From the wire to the file, the usual one first.
DROPS = (
    Drop("kernel", lambda account: account.known.kernel, always=True),
    Drop("interface", lambda account: account.known.interface, always=True),
    Drop("agent", lambda account: account.known.agent),
    Drop("api", lambda account: account.known.api),
    Drop("client", lambda account: account.known.client),
)

#: Number of samples kept of a source's rate.
HISTORY = 8
#: microseconds; a larger clock offset causes a warning.
CLOCK_OFF_US = 100_000
#: Number of failed instances that are named.
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
        """Sample the counters.

        Args:
            accounts: By source id.
            now: Seconds of a monotonic clock.
        """
        for number, account in accounts.items():
            samples = self._samples.get(number)
            if samples is None:
                self._samples[number] = _Samples(account, now)
            elif now > samples.at:
                samples.rates.append((account.received - samples.packets) / (now - samples.at))
                samples.packets, samples.at = account.received, now

    def rates(self, number: int) -> Tuple[float, ...]:
        """Packets per second of a source, the latest last; empty while there is only one sample."""
        samples = self._samples.get(number)
        return tuple(samples.rates) if samples is not None else ()


@dataclass(frozen=True)
class Row:
    """One source, or one instance without a source.

    Attributes:
        state: ``open``, ``stopping``, ``closed``, ``lost``, ``failed``.
        rates: Packets per second, the latest last.
        drops: As in `DROPS`.
        clock_us: The agent's clock minus the api's, microseconds.
        more: More packets may have been dropped than is known.
    """

    name: str
    state: str
    packets: int = 0
    bytes: int = 0
    rates: Tuple[float, ...] = ()
    drops: Tuple[int, ...] = (0,) * len(DROPS)
    clock_us: Optional[int] = None
    more: bool = False

    @property
    def rate(self) -> float:
        """Packets per second now, averaged over two samples to be legible."""
        latest = self.rates[-2:]
        return sum(latest) / len(latest) if latest else 0.0

    @property
    def bad(self) -> bool:
        """Whether packets are missing from the file because of it."""
        return any(self.drops) or self.state in ("lost", "failed")


class Hidden(NamedTuple):
    """Rows that do not fit on the screen."""

    rows: int
    sums: Row


@dataclass(frozen=True)
class Totals:
    """The state of the capture as a whole.

    Attributes:
        seconds: Since the first source was opened; None before.
        duration: Seconds that the capture may last.
        size: Bytes of the file.
        written: Packets in the file.
        awaited: Instances that have neither opened a source nor failed.
        stopping: Why it stops; empty while it continues.
        waiting: What the stop waits for, as parts of a line.
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


@dataclass(frozen=True)
class View:
    """What the table shows.

    Attributes:
        rows: In the order in which the sources were opened.
        hidden: The rows that do not fit.
        all: The totals, if there are several rows.
    """

    rows: Tuple[Row, ...]
    hidden: Optional[Hidden]
    all: Optional[Row]
    progress: Totals


def view(
    accounts: Dict[int, Account], failed: Iterable[str], meter: Meter, progress: Totals, places: int
) -> View:
    """What the table shows of a capture.

    Args:
        accounts: By source id.
        failed: Instances that could not be captured.
        places: Number of rows that fit.
    """
    rows = [_row(account, meter.rates(number), progress) for number, account in accounts.items()]
    captured = {account.source.instance for account in accounts.values()}
    rows += [Row(name, "failed") for name in list(failed)[:_FAILED_MAX] if name not in captured]
    shown, hidden = _choose(rows, places)
    return View(tuple(shown), hidden, sums("all", rows) if len(rows) > 1 else None, progress)


def sums(name: str, rows: List[Row]) -> Row:
    """Many rows as one."""
    length = max((len(row.rates) for row in rows), default=0)
    padded = [(0.0,) * (length - len(row.rates)) + row.rates for row in rows]
    return Row(
        name=name,
        state="",
        packets=sum(row.packets for row in rows),
        bytes=sum(row.bytes for row in rows),
        rates=tuple(map(sum, zip(*padded))),
        drops=tuple(map(sum, zip(*(row.drops for row in rows)))),
        more=any(row.more for row in rows),
    )


def _choose(rows: List[Row], places: int) -> Tuple[List[Row], Optional[Hidden]]:
    """The rows to show: if not all fit, the worst and the busiest."""
    if len(rows) <= places:
        return rows, None
    order = sorted(
        range(len(rows)),
        key=lambda index: (rows[index].bad, sum(rows[index].drops), rows[index].rate, rows[index].packets),
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
        drops=tuple(drop.count(account) for drop in DROPS),
        more=not account.traced,
        clock_us=account.source.clock_offset_us,
    )
