"""The style sheet of the page, light and dark, for a screen and for paper."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--soft:#5c6570;--rule:#d5dae1;--card:#f6f8fa;
--error:#c62828;--warning:#a15c00;--note:#5c6570;
--c0:#2458a6;--c1:#b3541e;--c2:#2c7a4b;--c3:#8a3b8f;--c4:#8a6d00;--c5:#2b7a86}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6ea;--paper:#15181c;--soft:#9aa4b0;--rule:#363c44;--card:#1d2127;
--error:#ff7b72;--warning:#e3a33b;--note:#9aa4b0;
--c0:#7fb0f5;--c1:#f0a070;--c2:#7fd0a0;--c3:#d090d8;--c4:#e0c050;--c5:#80c8d0}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1000px;
margin:2em auto;padding:0 1.2em}
h1{font-size:1.6em;margin:0}h2{font-size:1.1em;margin:2em 0 .6em}
.soft{color:var(--soft);font-size:.87em}.file{margin:.1em 0 1em}
.tiles{display:flex;flex-wrap:wrap;gap:.6em;margin:1em 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:.45em .9em;min-width:7em;
font-size:.87em;color:var(--soft)}
.tile b{display:block;font-size:1.6em;line-height:1.25;color:var(--ink);font-variant-numeric:tabular-nums}
.tile.error b{color:var(--error)}.tile.warning b{color:var(--warning)}
table{border-collapse:collapse;width:100%;font-size:.9em;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.28em .7em .28em 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--soft);font-weight:500;font-size:.93em}
td.n,th.n{text-align:right;padding:.28em 0 .28em .7em}
code{font:.87em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
svg{width:100%;height:auto;display:block}
.finding{background:var(--card);border:1px solid var(--rule);border-left:5px solid var(--note);
border-radius:6px;padding:.55em .9em;margin:.7em 0;break-inside:avoid}
.finding.error{border-left-color:var(--error)}.finding.warning{border-left-color:var(--warning)}
.finding p{margin:.2em 0}.finding .what{font-weight:600}
.pill{display:inline-block;border:1px solid;border-radius:1em;padding:0 .6em;font-size:.78em;font-weight:600;
color:var(--note);margin-right:.5em}
.pill.error{color:var(--error)}.pill.warning{color:var(--warning)}
text{fill:var(--ink);font:13px system-ui,sans-serif}.small{font-size:11px}
.dim{fill:var(--soft);font-size:11px}
.axis{stroke:var(--rule);fill:none}.line{fill:none;stroke-width:1.6;stroke-opacity:.85;stroke-linejoin:round}
.area{stroke:none;fill-opacity:.1}
.arrow{fill:none;stroke-width:1.3}.up{stroke:var(--c0)}.down{stroke:var(--c2)}
.lost{stroke:var(--error);fill:none;stroke-width:2}
.band{fill:var(--error);fill-opacity:.1}.dot{fill:var(--soft)}
.mark{fill:none;stroke-dasharray:3 3}.flag{stroke:none}
.mark.error{stroke:var(--error)}.mark.warning{stroke:var(--warning)}
.flag.error{fill:var(--error)}.flag.warning{fill:var(--warning)}
.span{stroke:var(--rule);stroke-width:4;stroke-linecap:round}.ring{fill:none;stroke:var(--c3);stroke-width:1.4}
.p0{fill:var(--c0)}.p1{fill:var(--c4)}.p2{fill:var(--c1)}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}
.c5{stroke:var(--c5)}
.t0{fill:var(--c0)}.t1{fill:var(--c1)}.t2{fill:var(--c2)}.t3{fill:var(--c3)}.t4{fill:var(--c4)}
.t5{fill:var(--c5)}
@media print{body{max-width:none;margin:0;padding:0;font-size:10px}h2{margin:.9em 0 .3em;break-after:avoid}
.tiles{margin:.5em 0}.tile{padding:.2em .7em}.finding{margin:.4em 0;padding:.3em .7em}
svg.rates{max-height:3.8cm}svg.ladder{max-height:14.5cm}.slow tr:nth-child(n+9){display:none}}
"""
