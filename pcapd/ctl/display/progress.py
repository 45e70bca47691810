"""How a capture stands, in numbers for a screen.  No I/O, no clock.

`Meter` looks at the accounts a few times a second and remembers what it needs for
rates; `view` says what is to be seen, and `pcapd.ctl.display.table` how it looks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, Iterable, List, NamedTuple, Optional, Tuple

from pcapd.merge.muxer import Account

__all__ = ["CLOCK_OFF_US", "DROPS", "HISTORY", "Hidden", "Meter", "Row", "Totals", "View", "sums", "view"]


class Drop(NamedTuple):
    """A place where packets are dropped, and how many were.

    Attributes:
        always: Also of interest while nothing was dropped there.
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

#: Samples of a source's rate that are kept.
HISTORY = 8
#: microseconds; a clock that is further off deserves a warning.
CLOCK_OFF_US = 100_000
#: Failed instances that are named; there may be as many as instances.
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
        """Look at the counters.

        Args:
            accounts: By source id.
            now: Seconds of a steady clock.
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
    """One source, or one instance that has none.

    Attributes:
        state: ``open``, ``stopping``, ``closed``, ``lost``, ``failed``.
        rates: Packets per second, the latest last.
        drops: As in `DROPS`.
        clock_us: The agent's clock minus the api's, microseconds.
        more: More may be dropped than is known.
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
        """Packets per second now: of the last two samples, so that it can be read."""
        latest = self.rates[-2:]
        return sum(latest) / len(latest) if latest else 0.0

    @property
    def bad(self) -> bool:
        """Something is missing from the file because of it."""
        return any(self.drops) or self.state in ("lost", "failed")


class Hidden(NamedTuple):
    """Rows for which there is no place."""

    rows: int
    sums: Row


@dataclass(frozen=True)
class Totals:
    """Where the capture as a whole stands.

    Attributes:
        seconds: Since the first source was open; None before.
        duration: Seconds that it may last.
        size: Bytes of the file.
        written: Packets in it.
        awaited: Instances that have neither opened a source nor failed.
        stopping: Why it stops; empty while it goes on.
        waiting: What the stop waits for, in pieces of text.
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
    """What is to be seen.

    Attributes:
        rows: In the order in which the sources were opened.
        hidden: Those for which there is no place.
        all: The sums, where there are several rows.
    """

    rows: Tuple[Row, ...]
    hidden: Optional[Hidden]
    all: Optional[Row]
    progress: Totals


def view(
    accounts: Dict[int, Account], failed: Iterable[str], meter: Meter, progress: Totals, places: int
) -> View:
    """What is to be seen of a capture.

    Args:
        accounts: By source id.
        failed: Instances that could not be captured.
        places: Rows that there is room for.
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
    """The rows to show, the worst and the busiest when there is no place for all."""
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
