"""``pcapctl explain``: what `pcapd.analysis` found, for people and for scripts."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Iterator, List, Sequence

from pcapd.analysis.explanation import Explanation
from pcapd.analysis.report import display_filter
from pcapd.ctl.text import escape
from pcapd.errors import PcapdError
from pcapd.limits import FINDINGS_SHOWN
from pcapd.savefile.blocks import BadFile
from pcapd.savefile.classic import read_any_rows
from pcapd.savefile.reader import Rows

__all__ = ["as_lines", "explain"]


def explain(names: Sequence[str]) -> Explanation:
    """Read files (``-`` is standard input), each of them from other places, and explain them.

    Raises:
        PcapdError: One of them cannot be read, or is neither pcapng nor pcap.
    """
    explanation = Explanation(names)
    explanation.read([_rows(index, name, explanation) for index, name in enumerate(names)])
    explanation.finish()
    return explanation


def _rows(index: int, name: str, explanation: Explanation) -> Iterator[Rows]:
    def rows() -> Iterator[Rows]:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            yield from read_any_rows(
                file,
                "standard input" if name == "-" else Path(name).name,
                lambda interface: explanation.place(index, interface),
                explanation.statistics,
            )

    try:
        yield from rows()
    except OSError as error:
        raise PcapdError(f"cannot read {name}: {error.strerror}") from error
    except BadFile as error:
        raise PcapdError(f"{name}: {error.message}", error.hint) from error


def as_lines(explanation: Explanation, *, everything: bool) -> List[str]:
    """For people; nothing in it can drive a terminal.

    Args:
        everything: All findings; else a screenful.
    """
    first_us, last_us = explanation.times
    places = [place for place in explanation.world.places if place.packets]
    lines = [
        f"{explanation.packets} packets in {(last_us - first_us) / 1_000_000:.1f} s "
        f"from {_time(first_us)}, seen at {len(places)} {'places' if len(places) != 1 else 'place'}"
    ]
    groups = explanation.groups if everything else explanation.groups[:FINDINGS_SHOWN]
    for group in groups:
        lines.append(f"{group.severity}: {group.kind.name}: {explanation.summary(group)}")
        if everything or group.severity != "note":
            frames = ", ".join(str(number) for _, number in group.frames[:3])
            where = f" (packets {frames})" if frames else ""
            lines.append(
                f"    {_time(group.first_us)}{where}: {display_filter(group) or 'the whole capture'}"
            )
            lines.append(f"    {group.kind.advice(group)}")
    left = len(explanation.groups) - len(groups)
    if left:
        lines.append(f"{left} more {'findings' if left != 1 else 'finding'}: --all shows all of them")
    if not explanation.groups:
        lines.append("nothing to report")
    return [escape(line) for line in lines]


def _time(us: int) -> str:
    moment = datetime.datetime.fromtimestamp(us // 1_000_000, datetime.timezone.utc)
    return f"{moment:%H:%M:%S}.{us // 1000 % 1000:03d}Z"
