"""Diagrams for the page, as SVG; all text in them is escaped."""

from __future__ import annotations

import html
import math
from typing import Dict, Final, Iterator, List, NamedTuple, Sequence, Tuple

from pcapd.analysis.page.ladder import Step

__all__ = ["Latency", "Mark", "ladder", "latencies", "rates"]

_WIDTH: Final = 960
_COLOURS: Final = 6  # of the style sheet: c0 to c5
#: Number of intervals of an axis.
_TICKS: Final = 8


class Mark(NamedTuple):
    """A finding in the diagram of rates, with its name."""

    us: int
    severity: str
    name: str


class Latency(NamedTuple):
    """The times of requests: percentiles, the smallest first, and those of slow requests; microseconds."""

    name: str
    percentiles: Sequence[int]
    slow: Sequence[int]


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    """A text element."""
    place = f'x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(content[:120])}</text>"


def _frame(kind: str, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _step(span: float) -> float:
    """A round step (1, 2 or 5 times a power of ten) that divides a span into at most `_TICKS` intervals."""
    span = max(span, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    fitting = (power * factor for factor in (1, 2, 5) if span <= power * factor * _TICKS)
    return next(fitting, 10 * power)


def rates(lines: Sequence[Tuple[str, List[Tuple[int, float]]]], marks: Sequence[Mark]) -> str:
    """Packets per second of each place, with marks for findings.

    Args:
        lines: Name of each place, and its rates by time.
        marks: The findings.
    """
    points = [point for _, line in lines for point in line]
    if not points:
        return ""
    begin, end = min(us for us, _ in points), max(us for us, _ in points)
    most = max(rate for _, rate in points) or 1
    left, top, bottom = 60, 24, 200

    def x(us: float) -> float:
        return left + (_WIDTH - left - 10) * min(1.0, max(0.0, (us - begin) / max(1, end - begin)))

    def y(rate: float) -> float:
        return bottom - (bottom - top) * rate / most

    parts = [
        text(left - 8, y(most) + 4, f"{most:.0f}/s", "dim", "end"),
        text(left - 8, bottom + 4, "0", "dim", "end"),
    ]
    parts += [f'<path class="axis" d="M{left} {y(part * most):.1f}H{_WIDTH - 10}"/>' for part in (0, 0.5, 1)]
    step = _step((end - begin) / 1e6)
    for seconds in (step * index for index in range(_TICKS + 1)):
        if seconds * 1e6 <= end - begin:
            parts.append(text(x(begin + seconds * 1e6), bottom + 18, f"{seconds:g} s", "dim", "middle"))
    for index, (name, line) in enumerate(lines):
        path = " ".join(f"{x(us):.1f},{y(rate):.1f}" for us, rate in line)
        colour = index % _COLOURS
        if line:
            area = f"M{x(line[0][0]):.1f},{bottom}L{path}L{x(line[-1][0]):.1f},{bottom}Z"
            parts.append(f'<path class="area t{colour}" d="{area}"/>')
        parts.append(f'<polyline class="line c{colour}" points="{path}"/>')
        parts.append(text(left + 180 * (index % 5), 242 + 16 * (index // 5), f"● {name}", f"small t{colour}"))
    for mark in marks:
        at = x(mark.us)
        flag = f"M{at - 5:.1f} {top - 12}h10l-5 10z"
        parts.append(f'<path class="mark {mark.severity}" d="M{at:.1f} {top}V{bottom}"/>')
        parts.append(f'<path class="flag {mark.severity}" d="{flag}">')
        parts.append(f"<title>{html.escape(mark.name)}</title></path>")
    return _frame("rates", 250 + 16 * ((len(lines) - 1) // 5), "packets per second", parts)


def latencies(rows: Sequence[Latency]) -> str:
    """The percentiles of each row on a logarithmic axis, and a ring for each slow request."""
    times = [us for row in rows for us in (*row.percentiles, *row.slow) if us > 0]
    if not times:
        return ""
    low = math.floor(math.log10(min(times)))
    high = max(low + 1, math.ceil(math.log10(max(times))))
    left, right, top = 290, _WIDTH - 170, 30
    bottom = top + 24 * len(rows)

    def x(us: int) -> float:
        return left + (right - left) * (math.log10(max(us, 10**low)) - low) / (high - low)

    parts = []
    for power in range(low, high + 1):
        parts.append(f'<path class="axis" d="M{x(10**power):.1f} {top - 6}V{bottom}"/>')
        parts.append(text(x(10**power), top - 12, _duration(10**power), "dim", "middle"))
    for index, row in enumerate(rows):
        y = top + 24 * index + 12
        parts.append(text(left - 14, y + 4, row.name, "small", "end"))
        ends = x(row.percentiles[0]), x(row.percentiles[-1])
        parts.append(f'<path class="span" d="M{ends[0]:.1f} {y}H{ends[1]:.1f}"/>')
        parts += [f'<circle class="ring" cx="{x(us):.1f}" cy="{y}" r="4"/>' for us in row.slow]
        for part, us in reversed(list(enumerate(row.percentiles))):
            parts.append(f'<circle class="p{part}" cx="{x(us):.1f}" cy="{y}" r="5"/>')
        shown = " / ".join(f"{us / 1000:.1f}" for us in row.percentiles)
        parts.append(text(_WIDTH, y + 4, f"{shown} ms", "dim", "end"))
    for part, (at, name) in enumerate(((0, "median"), (90, "95th"), (150, "99th percentile"))):
        parts.append(text(left + at, bottom + 20, f"● {name}", f"small p{part}"))
    parts.append(text(left + 280, bottom + 20, "○ one of the slowest requests", "small t3"))
    return _frame("latencies", bottom + 28, "latencies", parts)


def _duration(us: int) -> str:
    if us >= 1_000_000:
        return f"{us // 1_000_000} s"
    return f"{us // 1000} ms" if us >= 1000 else f"{us} µs"


def ladder(columns: Sequence[Tuple[int, str]], steps: Sequence[Step]) -> str:
    """The packets of a conversation, one per line, with a column for each place.

    The line of a packet that the next place did not see ends with a cross.  Packets that the
    finding names have a coloured background.

    Args:
        columns: Places from the client to the server, with their names.
        steps: The packets.
    """
    if not steps:
        return ""
    begin = steps[0].us
    gap = (_WIDTH - 400) / max(1, len(columns) - 1) if len(columns) > 1 else 0
    at = {place: 150 + gap * index if gap else 340 for index, (place, _) in enumerate(columns)}
    bottom = 50 + 20 * len(steps)
    parts = [text(at[place], 16, name, "small", "middle") for place, name in columns]
    parts += [f'<path class="axis" d="M{x:.1f} 24V{bottom}"/>' for x in at.values()]
    for index, step in enumerate(steps):
        y = 44 + 20 * index
        if step.marked:
            parts.append(f'<rect class="band" x="0" y="{y - 10}" width="{_WIDTH}" height="20" rx="4"/>')
        parts.append(text(90, y + 4, f"{(step.us - begin) / 1000:.3f} ms", "dim", "end"))
        parts.append(text(_WIDTH - 225, y + 4, ("→ " if step.up else "← ") + step.label, "small"))
        parts += _arrows([place for place, _ in columns], at, step, y)
    return _frame("ladder", bottom + 10, "packets of one conversation", parts)


def _arrows(places: List[int], at: Dict[int, float], step: Step, y: int) -> Iterator[str]:
    order = places if step.up else places[::-1]
    kind = "arrow up" if step.up else "arrow down"
    yield from (
        f'<circle class="dot" cx="{at[place]:.1f}" cy="{y}" r="2.5"/>'
        for place in order
        if place in step.seen
    )
    if len(order) == 1:
        x, way = at[order[0]], 60 if step.up else -60
        head = f"l{-way / 10:.1f} -4m{way / 10:.1f} 4l{-way / 10:.1f} 4"
        yield f'<path class="{kind}" d="M{x - way:.1f} {y}H{x + way:.1f}{head}"/>'
    for here, there in zip(order, order[1:]):
        if here not in step.seen:
            continue
        a, b = at[here], at[there]
        if there in step.seen:
            tip = 7 if b > a else -7
            yield f'<path class="{kind}" d="M{a:.1f} {y}H{b:.1f}l{-tip} -4m{tip} 4l{-tip} 4"/>'
        else:
            yield f'<path class="lost" d="M{a:.1f} {y}H{(a + b) / 2:.1f}m-5 -5l10 10m-10 0l10 -10"/>'
