"""The page: the capture, the findings and the diagrams.  All content is escaped."""

from __future__ import annotations

import datetime
import html
from typing import Final, Iterator, List, Optional

from pcapd.analysis.explanation import Explanation
from pcapd.analysis.findings.base import NOTE, Group, address
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.page import charts
from pcapd.analysis.page.ladder import Ladder
from pcapd.analysis.page.timeline import Timeline
from pcapd.analysis.report import display_filter

__all__ = ["document", "worst_conversation"]

#: Number of rows in tables and diagrams.
_ROWS_MAX: Final = 20
_FINDINGS_MAX: Final = 50

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--soft:#667;--rule:#ccd;
--c0:#2458a6;--c1:#b3541e;--c2:#2c7a4b;--c3:#8a3b8f;--c4:#a08000;--c5:#40808a}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6ea;--paper:#15181c;--soft:#99a;--rule:#445;
--c0:#7fb0f5;--c1:#f0a070;--c2:#7fd0a0;--c3:#d090d8;--c4:#e0c050;--c5:#80c8d0}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:980px;
margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em;border-bottom:1px solid var(--rule)}
table{border-collapse:collapse;width:100%;font-size:.9em}td,th{text-align:left;padding:.2em .6em .2em 0;
border-bottom:1px solid var(--rule);vertical-align:top}
td.n{text-align:right}code{font-size:.88em;overflow-wrap:anywhere}svg{width:100%;height:auto}
.finding{border-left:5px solid var(--rule);padding:.1em 0 .1em .8em;margin:.8em 0;break-inside:avoid}
.finding.error{border-color:#c62828}.finding.warning{border-color:#d08700}.finding p{margin:.25em 0}
.soft{color:var(--soft);font-size:.9em}
text{fill:var(--ink);font:13px system-ui,sans-serif}.small{font-size:11px}
.axis{stroke:var(--rule);fill:none}.line{fill:none;stroke-width:1.5}.arrow{stroke:var(--c0);fill:none}
.lost{stroke:#c62828;fill:none;stroke-width:2}
circle{fill:var(--c0)}.mark{stroke-dasharray:3 3}.mark.error{stroke:#c62828}.mark.warning{stroke:#d08700}
.p0{fill:var(--c0)}.p1{fill:var(--c4)}.p2{fill:var(--c1)}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}
.c5{stroke:var(--c5)}
.t0{fill:var(--c0)}.t1{fill:var(--c1)}.t2{fill:var(--c2)}.t3{fill:var(--c3)}.t4{fill:var(--c4)}
.t5{fill:var(--c5)}
@media print{body{max-width:none;margin:0;font-size:11px}h2{margin-top:1em}}
"""
#: Nothing is loaded and no script runs, whatever a packet contains.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def document(explanation: Explanation, timeline: Timeline, ladder: Optional[Ladder]) -> str:
    """The whole page as HTML."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width"><title>pcapctl explain</title>',
        f"<style>{_STYLE}</style>",
        "</head><body><h1>What went wrong</h1>",
        *_captured(explanation),
        "<h2>Findings</h2>",
        *(_finding(explanation, group) for group in explanation.groups[:_FINDINGS_MAX]),
        "" if explanation.groups else "<p>Nothing to report.</p>",
        *_drawings(explanation, timeline, ladder),
        "</body></html>\n",
    ]
    return "".join(parts)


def worst_conversation(explanation: Explanation) -> Optional[Group]:
    """The finding whose conversation is drawn: the first one with a conversation."""
    return next((group for group in explanation.groups if group.example is not None), None)


def _captured(explanation: Explanation) -> Iterator[str]:
    first_us, last_us = explanation.times
    text = f"{explanation.packets} packets in {(last_us - first_us) / 1e6:.1f} s, from {_time(first_us)}"
    files = ", ".join(explanation.files)
    yield f"<p>{html.escape(text)}. <span class=soft>{html.escape(files)}</span></p>"
    yield "<table><tr><th>place<th>packets<th>lost by the capture<th>clock</tr>"
    for place in explanation.world.places[:_ROWS_MAX]:
        offset = ""
        if place.clock:
            ahead_us = place.first_us - place.clock.corrected(place.first_us)
            offset = f"{ahead_us / 1000:+.3f} ms ± {place.clock.error_us / 1000:.3f}"
        known = place.dropped is not None or place.losses
        lost = str(place.lost_in_all) if known else "unknown"
        cells = (place.name, str(place.packets), lost, offset)
        yield f"<tr>{''.join(f'<td>{html.escape(cell)}' for cell in cells)}</tr>"
    yield "</table>"


def _finding(explanation: Explanation, group: Group) -> str:
    frames = ", ".join(str(number) for _, number in group.frames)
    evidence = f"{_time(group.first_us)}" if group.first_us else ""
    evidence += f", packets {frames}" if frames else ""
    shown = display_filter(group)
    filter_ = f"<br><code>{html.escape(shown)}</code>" if shown else ""
    return (
        f'<div class="finding {group.severity}"><p><b>{group.severity}: {html.escape(group.kind.name)}</b> '
        f"{html.escape(explanation.summary(group))}</p><p>{html.escape(group.kind.advice(group))}</p>"
        f'<p class="soft">{html.escape(evidence)}{filter_}</p></div>'
    )


def _drawings(explanation: Explanation, timeline: Timeline, ladder: Optional[Ladder]) -> Iterator[str]:
    places = [place for place in explanation.world.places if place.packets]
    marks = [(group.first_us, group.severity) for group in explanation.groups if group.severity != NOTE]
    lines = [(place.name, timeline.rates(place.number)) for place in places[:10]]
    yield "<h2>Packets per second</h2>" + charts.rates(lines, [mark for mark in marks if mark[0]])
    groups = sorted(explanation.requests.items(), key=lambda pair: -pair[1].count)[:_ROWS_MAX]
    if groups:
        rows = [
            (f"{instance or ''} {method} {path} ({sample.count})", sample.percentiles((0.5, 0.95, 0.99)))
            for (instance, method, path), sample in groups
        ]
        yield "<h2>Requests: median, 95th and 99th percentile</h2>" + charts.latencies(rows)
        yield from _slowest(explanation)
    if ladder is not None:
        conversation = ladder.conversation
        order = in_order(conversation, explanation.world)
        columns = [(view.place, explanation.world.places[view.place].name) for view in order]
        ends = f"{address(conversation.client)} to {address(conversation.server)}"
        yield f"<h2>Packets of {html.escape(ends)}</h2>" + charts.ladder(columns, ladder.steps())


def _slowest(explanation: Explanation) -> Iterator[str]:
    yield "<h2>Slowest requests</h2><table><tr><th>time<th>request<th>status"
    yield "<th>took<th>network<th>Envoy<th>app</tr>"
    for _, bad in explanation.slowest[:_ROWS_MAX]:
        cells: List[str] = [_time(bad.first_us), f"{bad.method} {bad.path}", bad.outcome]
        cells += [_ms(us) for us in (bad.duration_us, bad.network_us, bad.envoy_us, bad.app_us)]
        yield f"<tr>{''.join(f'<td>{html.escape(cell)}' for cell in cells)}</tr>"
    yield "</table>"


def _ms(us: Optional[int]) -> str:
    return "" if us is None else f"{us / 1000:.1f} ms"


def _time(us: int) -> str:
    moment = datetime.datetime.fromtimestamp(us // 1_000_000, datetime.timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{us // 1000 % 1000:03d}Z"
