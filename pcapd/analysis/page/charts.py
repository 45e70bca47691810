"""Diagrams for the page, as SVG; all text in them is escaped."""

from __future__ import annotations

import html
from typing import Dict, Final, List, Sequence, Tuple

from pcapd.analysis.page.ladder import Step

__all__ = ["ladder", "latencies", "rates"]

_WIDTH: Final = 960
_COLOURS: Final = 6  # of the style sheet: c0 to c5


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    """A text element."""
    place = f'x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(content[:120])}</text>"


def _frame(height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def rates(lines: Sequence[Tuple[str, List[Tuple[int, float]]]], marks: Sequence[Tuple[int, str]]) -> str:
    """Packets per second of each place, with marks for findings.

    Args:
        lines: Name of each place, and its rates by time.
        marks: Time and severity.
    """
    points = [point for _, line in lines for point in line]
    if not points:
        return ""
    begin, end = min(us for us, _ in points), max(us for us, _ in points)
    most = max(rate for _, rate in points) or 1
    height, left, bottom = 220, 60, 190

    def x(us: int) -> float:
        return left + (_WIDTH - left - 10) * min(1.0, max(0.0, (us - begin) / max(1, end - begin)))

    parts = [text(left - 6, 22, f"{most:.0f}/s", "small", "end"), text(left - 6, bottom, "0", "small", "end")]
    parts.append(f'<path class="axis" fill="none" d="M{left} 10V{bottom}H{_WIDTH - 10}"/>')
    for index, (name, line) in enumerate(lines):
        path = " ".join(f"{x(us):.1f},{bottom - (bottom - 18) * rate / most:.1f}" for us, rate in line)
        parts.append(f'<polyline fill="none" class="line c{index % _COLOURS}" points="{path}"/>')
        parts.append(
            text(left + 8 + 180 * (index % 5), 212 - 190 * (index >= 5), name, f"small t{index % _COLOURS}")
        )
    parts += [f'<path class="mark {severity}" d="M{x(us):.1f} 10V{bottom}"/>' for us, severity in marks]
    parts.append(text(_WIDTH - 10, 206, f"{(end - begin) / 1e6:.1f} s", "small", "end"))
    return _frame(height, "packets per second", parts)


def latencies(rows: Sequence[Tuple[str, Sequence[int]]]) -> str:
    """The median, 95th and 99th percentile for each name, in microseconds."""
    if not rows:
        return ""
    most = max(max(values) for _, values in rows) or 1
    left, parts = 300, []
    for index, (name, values) in enumerate(rows):
        y = 12 + 22 * index
        parts.append(text(left - 8, y + 12, name, "small", "end"))
        for part, value in sorted(enumerate(values), key=lambda pair: -pair[1]):
            width = max(1.0, (_WIDTH - left - 180) * value / most)
            parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="15" class="p{part}"/>')
        end = left + max(1.0, (_WIDTH - left - 180) * max(values) / most)
        values_ms = " / ".join(f"{value / 1000:.1f}" for value in values)
        parts.append(text(end + 6, y + 12, f"{values_ms} ms", "small"))
    return _frame(24 + 22 * len(rows), "latencies", parts)


def ladder(columns: Sequence[Tuple[int, str]], steps: Sequence[Step]) -> str:
    """The packets of a conversation, one per line, with a column for each place.

    The line of a packet that the next place did not see ends with a cross.

    Args:
        columns: Places from the client to the server, with their names.
        steps: The packets.
    """
    if not steps:
        return ""
    begin = steps[0].us
    gap = (_WIDTH - 360) / max(1, len(columns) - 1) if len(columns) > 1 else 0
    at = {place: 150 + gap * index if gap else 340 for index, (place, _) in enumerate(columns)}
    bottom = 50 + 22 * len(steps)
    parts = [text(at[place], 16, name, "small", "middle") for place, name in columns]
    parts += [f'<path class="axis" fill="none" d="M{x:.1f} 24V{bottom}"/>' for x in at.values()]
    for index, step in enumerate(steps):
        y = 44 + 22 * index
        parts.append(text(90, y + 4, f"{(step.us - begin) / 1000:.3f} ms", "small", "end"))
        parts.append(text(_WIDTH - 190, y + 4, ("→ " if step.up else "← ") + step.label, "small"))
        parts += _arrows([place for place, _ in columns], at, step, y)
    return _frame(bottom + 10, "packets of one conversation", parts)


def _arrows(places: List[int], at: Dict[int, float], step: Step, y: int) -> List[str]:
    order = places if step.up else places[::-1]
    parts = [f'<circle cx="{at[place]:.1f}" cy="{y}" r="3"/>' for place in order if place in step.seen]
    if len(order) == 1:
        x, way = at[order[0]], 60 if step.up else -60
        head = f"l{-way / 10:.1f} -4m{way / 10:.1f} 4l{-way / 10:.1f} 4"
        return [*parts, f'<path class="arrow" fill="none" d="M{x - way:.1f} {y}H{x + way:.1f}{head}"/>']
    for here, there in zip(order, order[1:]):
        if here not in step.seen:
            continue
        a, b = at[here], at[there]
        if there in step.seen:
            tip = 7 if b > a else -7
            parts.append(
                f'<path class="arrow" fill="none" d="M{a:.1f} {y}H{b:.1f}l{-tip} -4m{tip} 4l{-tip} 4"/>'
            )
        else:
            middle = (a + b) / 2
            parts.append(
                f'<path class="lost" fill="none" d="M{a:.1f} {y}H{middle:.1f}m-5 -5l10 10m-10 0l10 -10"/>'
            )
    return parts
