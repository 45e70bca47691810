"""Renders the live table as text: `render`.  No I/O, no clock.

Names come from the network: they are escaped, and passed to rich as plain text, never
as markup.  Importing rich is slow, so this module is imported only to show a table.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Tuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcapd.ctl.display.progress import CLOCK_OFF_US, DROPS, Row, Totals, View
from pcapd.ctl.display.terminal import Line
from pcapd.ctl.display.text import escape, quantity

__all__ = ["Look", "places", "render"]

#: Largest number of sources shown.
_ROWS_MAX = 16
#: Lines that are not sources: two of headings, the total, "and N more", two below the table.
_LINES_AROUND = 6
_NAME_MIN = 12
#: Number of samples in a sparkline.
_COURSE = 8
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.,-=+*#"
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_STATES = {"open": "green", "lost": "bold red", "failed": "bold red", "closed": "dim"}


@dataclass(frozen=True)
class Look:
    """The abilities of the terminal.

    Attributes:
        width: Number of columns.
        height: Number of lines.
        color: Whether colours are allowed.
        unicode: Whether characters other than ASCII can be shown.
    """

    width: int = 80
    height: int = 24
    color: bool = True
    unicode: bool = True


class _Column(NamedTuple):
    """One column.

    Attributes:
        head: The heading, in one or two lines.
        cell: Returns the text and style of a row's cell.
        need: Priority; if there is not enough room, columns with low priority are dropped.
        left: Whether the text is aligned to the left.
    """

    head: str
    cell: Callable[[Row], Tuple[str, str]]
    need: int
    left: bool = False


def places(look: Look) -> int:
    """The number of sources that fit."""
    return max(1, min(_ROWS_MAX, look.height - 1 - _LINES_AROUND))


def render(view: View, look: Look) -> List[Line]:
    """The table, with the progress below it; never more lines than the terminal has."""
    width = max(_NAME_MIN, look.width - 1)  # a character in the last column may wrap
    screen = io.StringIO()
    console = Console(
        file=screen,
        width=width,
        color_system="standard" if look.color else None,
        force_terminal=True,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        _environ={},
    )
    if view.rows:
        console.print(_table(view, look, width))
    table = [text.rstrip() for text in screen.getvalue().splitlines()]
    room = max(1, look.height - 1)  # one line is for the cursor
    below = _below(view.progress, look, width)[: max(1, room - len(table))]
    return [Line(text, cell_len(_SGR.sub("", text))) for text in [*table, *below][-room:]]


# --- the table ------------------------------------------------------------------


def _table(view: View, look: Look, width: int) -> Table:
    total = [view.all] if view.all is not None else []
    hidden = [view.hidden.sums] if view.hidden is not None else []
    columns, widths = _fit(_columns(view, look), [*view.rows, *hidden, *total], width)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, collapse_padding=True, header_style="bold")
    for column, size in zip(columns, widths):
        table.add_column(
            Text(column.head),
            justify="left" if column.left else "right",
            width=size,
            no_wrap=True,
            vertical="bottom",
        )
    for row in [*view.rows, *hidden, *total]:
        cells = [(*column.cell(row), size) for column, size in zip(columns, widths)]
        style = "bold" if row is view.all else "dim" if any(row is other for other in hidden) else ""
        table.add_row(*(Text(_cut(text, size, look), style) for text, style, size in cells), style=style)
    return table


def _columns(view: View, look: Look) -> List[_Column]:
    rows = [*view.rows, *([view.all] if view.all is not None else [])]
    bars = _BARS if look.unicode else _ASCII_BARS
    columns = [
        _Column("instance", lambda row: (_name(view, row), ""), 100, left=True),
        _Column("state", lambda row: (row.state, _STATES.get(row.state, "")), 60, left=True),
        _Column("packets", lambda row: (_count(row.packets), ""), 90),
        _Column("bytes", lambda row: (quantity(row.bytes), ""), 40),
        _Column("per\nsecond", lambda row: (_count(round(row.rate)), ""), 50),
        _Column("", lambda row: (_sparkline(row.rates[-_COURSE:], bars), "cyan"), 20, left=True),
    ]
    for index, drop in enumerate(DROPS):
        # A column with a number that is not 0 has a high priority.
        some = any(row.drops[index] for row in rows)
        if some or drop.always:
            columns.append(_Column(f"dropped\n{drop.place}", _dropped(index), 95 if some else 30 - index))
    columns.append(_Column("clock", _clock, 35))
    return columns


def _dropped(index: int) -> Callable[[Row], Tuple[str, str]]:
    def cell(row: Row) -> Tuple[str, str]:
        drops = row.drops[index]
        if drops is None:
            return "?", ""
        return _count(drops) + ("+" if row.more else ""), "bold red" if drops else ""

    return cell


def _fit(columns: List[_Column], rows: List[Row], width: int) -> Tuple[List[_Column], List[int]]:
    """The columns that fit, and their widths; the name gets the remaining width."""
    sized = [
        (
            column,
            max(
                cell_len(text) for text in [*column.head.split("\n"), *(column.cell(row)[0] for row in rows)]
            ),
        )
        for column in columns
    ]
    while len(sized) > 1:
        others = sum(size + 1 for _, size in sized[1:])
        if others + min(_NAME_MIN, sized[0][1]) <= width:
            break
        sized.remove(min(sized[1:], key=lambda pair: pair[0].need))
    name, wanted = sized[0]
    left = width - sum(size + 1 for _, size in sized[1:])
    sized[0] = (name, max(1, min(wanted, left)))
    return [column for column, _ in sized], [size for _, size in sized]


def _name(view: View, row: Row) -> str:
    if view.hidden is not None and row is view.hidden.sums:
        return f"and {view.hidden.rows} more"
    return escape(row.name)


def _clock(row: Row) -> Tuple[str, str]:
    if row.clock_us is None:
        return "", ""
    off = abs(row.clock_us) > CLOCK_OFF_US
    text = f"{row.clock_us / 1e6:+.2f} s" if off else f"{row.clock_us / 1000:+.1f} ms"
    return text, "bold yellow" if off else ""


def _count(number: int) -> str:
    """The number, rounded if it is long."""
    if number < 10_000_000:
        return str(number)
    return f"{number / 1e6:.1f}M" if number < 1e9 else f"{number / 1e9:.2f}G"


def _sparkline(rates: Tuple[float, ...], bars: str) -> str:
    """The latest rates as bars; the highest bar is the maximum of these rates, the lowest is 0."""
    most = max(rates, default=0.0)
    heights = [round(rate / most * (len(bars) - 1)) if most else 0 for rate in rates]
    return "".join(bars[height] for height in heights).ljust(_COURSE)


def _cut(text: str, width: int, look: Look) -> str:
    """The text cut to a width; the middle is removed, because names differ at their ends."""
    if cell_len(text) <= width:
        return text
    mark = "…" if look.unicode else "~"
    tail = (width - 1) // 2
    end = set_cell_size(text[::-1], tail)[::-1] if tail else ""
    return set_cell_size(text, width - 1 - tail) + mark + end


# --- below the table ------------------------------------------------------------


def _below(progress: Totals, look: Look, width: int) -> List[str]:
    between = " · " if look.unicode else " | "
    notes = [progress.findings] if progress.findings else []
    if progress.awaited:
        notes.append(f"waiting for {progress.awaited} more instance{'s' if progress.awaited > 1 else ''}")
    if progress.stopping:
        notes += [f"stopping: {escape(progress.stopping)}", *progress.waiting]
    elif progress.seconds is not None:
        notes.append("Ctrl-C stops and finishes the file")
    lines = [*_filled(_distance(progress), between, width), *_filled(notes, between, width)]
    return [_cut(line, width, look) for line in lines]


def _distance(progress: Totals) -> List[str]:
    """The progress of the capture in relation to its limits."""
    if progress.seconds is None:
        return ["waiting for the first instance"]
    parts = [_time(progress.seconds), quantity(progress.size), f"{progress.written} packets written"]
    if progress.duration is not None:
        parts[0] += f" ({_time(math.ceil(max(0.0, progress.duration - int(progress.seconds))))} left)"
    if progress.max_size is not None:
        parts[1] += f" ({quantity(max(0, progress.max_size - progress.size))} left)"
    if progress.max_packets is not None:
        parts[2] += f" ({max(0, progress.max_packets - progress.written)} left)"
    return parts


def _filled(parts: List[str], between: str, width: int) -> List[str]:
    """The parts in as few lines as possible."""
    lines: List[str] = []
    for part in parts:
        if lines and cell_len(lines[-1] + between + part) <= width:
            lines[-1] += between + part
        else:
            lines.append(part)
    return lines


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
