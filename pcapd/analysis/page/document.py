"""The page: the capture, the findings and the diagrams.  All content is escaped."""

from __future__ import annotations

import datetime
import html
from typing import Final, Iterator, List, Optional

from pcapd.analysis.explanation import Explanation
from pcapd.analysis.findings.base import NOTE, SEVERITIES, Group, address
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.page import charts
from pcapd.analysis.page.ladder import Ladder
from pcapd.analysis.page.style import STYLE
from pcapd.analysis.page.timeline import Timeline
from pcapd.analysis.report import display_filter

__all__ = ["document", "worst_conversation"]

#: Number of rows in tables and diagrams.
_ROWS_MAX: Final = 15
_FINDINGS_MAX: Final = 50

#: Nothing is loaded and no script runs, whatever a packet contains.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def document(explanation: Explanation, timeline: Timeline, ladder: Optional[Ladder]) -> str:
    """The whole page as HTML."""
    loud = any(group.severity != NOTE for group in explanation.groups)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width"><title>pcapctl explain</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{'What went wrong' if loud else 'Nothing went wrong in this capture'}</h1>",
        *_captured(explanation),
        "<h2>Findings</h2>" if explanation.groups else "",
        *(_finding(explanation, group) for group in explanation.groups[:_FINDINGS_MAX]),
        *_drawings(explanation, timeline, ladder),
        "</body></html>\n",
    ]
    return "".join(parts)


def worst_conversation(explanation: Explanation) -> Optional[Group]:
    """The finding whose conversation is drawn: the first one with a conversation."""
    return next((group for group in explanation.groups if group.example is not None), None)


def _captured(explanation: Explanation) -> Iterator[str]:
    first_us, last_us = explanation.times
    files = ", ".join(explanation.files)
    yield f'<p class="soft file">{html.escape(files)}, captured {_day(first_us)} {_time(first_us)}</p>'
    if explanation.contents:
        yield "<p><b>This page quotes contents of requests (--show-contents).</b></p>"
    yield '<div class="tiles">'
    for severity in SEVERITIES:
        count = sum(group.severity == severity for group in explanation.groups)
        yield _tile(str(count), severity if count == 1 else f"{severity}s", severity if count else "")
    yield _tile(str(explanation.packets), "packets")
    yield _tile(f"{(last_us - first_us) / 1e6:.1f} s", "duration")
    numbers = "".join(f'<th class="n">{name}' for name in ("packets", "lost by the capture", "clock"))
    yield f"</div><table><tr><th>place{numbers}</tr>"
    for place in explanation.world.places[:_ROWS_MAX]:
        offset = ""
        if place.clock:
            ahead_us = place.first_us - place.clock.corrected(place.first_us)
            offset = f"{ahead_us / 1000:+.3f} ms ± {place.clock.error_us / 1000:.3f}"
        known = place.dropped is not None or place.losses
        lost = str(place.lost_in_all) if known else "unknown"
        yield _row([place.name], [str(place.packets), lost, offset])
    yield "</table>"


def _tile(number: str, name: str, kind: str = "") -> str:
    return f'<div class="tile {kind}"><b>{html.escape(number)}</b>{html.escape(name)}</div>'


def _row(texts: List[str], numbers: List[str]) -> str:
    cells = [f"<td>{html.escape(cell)}" for cell in texts]
    cells += [f'<td class="n">{html.escape(cell)}' for cell in numbers]
    return f"<tr>{''.join(cells)}</tr>"


def _finding(explanation: Explanation, group: Group) -> str:
    frames = ", ".join(str(number) for _, number in group.frames)
    evidence = [_time(group.first_us)] if group.first_us else []
    evidence += [f"packets {frames}"] if frames else []
    shown = display_filter(group)
    filter_ = f"<br><code>{html.escape(shown)}</code>" if shown else ""
    return (
        f'<div class="finding {group.severity}">'
        f'<p><span class="pill {group.severity}">{group.severity}</span>'
        f'<code class="soft">{html.escape(group.kind.name)}</code></p>'
        f'<p class="what">{html.escape(explanation.summary(group))}</p>'
        f"<p>{html.escape(group.kind.advice(group))}</p>"
        f'<p class="soft">{html.escape(" · ".join(evidence))}{filter_}</p></div>'
    )


def _drawings(explanation: Explanation, timeline: Timeline, ladder: Optional[Ladder]) -> Iterator[str]:
    places = [place for place in explanation.world.places if place.packets]
    marks = [
        charts.Mark(group.first_us, group.severity, f"{group.severity}: {group.kind.name}")
        for group in explanation.groups
        if group.severity != NOTE and group.first_us
    ]
    lines = [(place.name, timeline.rates(place.number)) for place in places[:10]]
    yield "<h2>Packets per second</h2>" + charts.rates(lines, marks)
    if explanation.requests:
        yield "<h2>Requests</h2>" + charts.latencies(list(_latencies(explanation)))
        yield from _slowest(explanation)
    if ladder is not None:
        conversation = ladder.conversation
        order = in_order(conversation, explanation.world)
        columns = [(view.place, explanation.world.places[view.place].name) for view in order]
        ends = f"{address(conversation.client)} to {address(conversation.server)}"
        yield f"<h2>Packets of {html.escape(ends)}</h2>" + charts.ladder(columns, ladder.steps())


def _latencies(explanation: Explanation) -> Iterator[charts.Latency]:
    groups = sorted(explanation.requests.items(), key=lambda pair: -pair[1].count)[:_ROWS_MAX]
    for (instance, method, path), sample in groups:
        slow = [
            bad.duration_us
            for _, bad in explanation.slowest[:_ROWS_MAX]
            if (explanation.world.places[bad.place].instance, bad.method, bad.path)
            == (instance, method, path)
        ]
        name = f"{instance or ''} {method} {path} ({sample.count})"
        yield charts.Latency(name, sample.percentiles((0.5, 0.95, 0.99)), slow)


def _slowest(explanation: Explanation) -> Iterator[str]:
    shown = explanation.slowest[:_ROWS_MAX]
    parts = [
        (name, [of(bad) for _, bad in shown])
        for name, of in (
            ("took", lambda bad: bad.duration_us),
            ("network", lambda bad: bad.network_us),
            ("Envoy", lambda bad: bad.envoy_us),
            ("app", lambda bad: bad.app_us),
        )
    ]
    known = [(name, times) for name, times in parts if any(us is not None for us in times)]
    numbers = "".join(f'<th class="n">{name}' for name, _ in known)
    yield '<h2>Slowest requests</h2><table class="slow"><tr><th>time<th>request<th>status'
    yield f"{numbers}</tr>"
    for index, (_, bad) in enumerate(shown):
        texts = [_time(bad.first_us), bad.shown, bad.outcome]
        yield _row(texts, [_ms(times[index]) for _, times in known])
    yield "</table>"


def _ms(us: Optional[int]) -> str:
    return "" if us is None else f"{us / 1000:.1f} ms"


def _time(us: int) -> str:
    """The time of day; the head of the page has the day."""
    return f"{_moment(us):%H:%M:%S}.{us // 1000 % 1000:03d}Z"


def _day(us: int) -> str:
    return f"{_moment(us):%Y-%m-%d}"


def _moment(us: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(us // 1_000_000, datetime.timezone.utc)
