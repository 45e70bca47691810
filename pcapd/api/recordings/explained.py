"""The process that explains a clip: ``main`` reads a pcapng from standard input, and prints JSON.

It has a limited amount of memory and processor time, because the packets may come from anybody.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

from pcapd.analysis.explanation import Explanation
from pcapd.analysis.report import as_dict
from pcapd.errors import PcapdError
from pcapd.limits import CLIP_FINDINGS_MAX, EXPLAIN_CLIP_MEMORY, EXPLAIN_CLIP_TIME
from pcapd.savefile.blocks import FileInterface, FileStatistics
from pcapd.savefile.classic import read_any_rows

__all__ = ["bounded", "main"]

#: Priority (nice): captures come first.
_NICE = 10


class _Places:
    """Makes each interface of the file a place."""

    def __init__(self, explanation: Explanation) -> None:
        self._explanation = explanation

    def place(self, interface: FileInterface) -> int:
        """The number of an interface's place."""
        return self._explanation.place(0, interface)

    def statistics(self, place: int, counters: FileStatistics) -> None:
        """Handle the loss counters of a place."""
        self._explanation.statistics(place, counters)


def main() -> None:
    """Explain, and print the findings."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (EXPLAIN_CLIP_MEMORY, EXPLAIN_CLIP_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(EXPLAIN_CLIP_TIME), int(EXPLAIN_CLIP_TIME)))
    explanation = Explanation(["clip"])
    places = _Places(explanation)
    try:
        explanation.read([read_any_rows(sys.stdin.buffer, "clip", places.place, places.statistics)], None)
        explanation.finish()
    except PcapdError as error:
        sys.exit(str(error))
    print(json.dumps(bounded(as_dict(explanation)["findings"])))


def bounded(findings: list[Any]) -> list[Any]:
    """As many of the findings, the worst first, as may be stored."""
    kept, size = [], 0
    for finding in findings:
        size += len(json.dumps(finding))
        if size > CLIP_FINDINGS_MAX:
            break
        kept.append(finding)
    return kept
