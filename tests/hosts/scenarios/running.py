"""Runs scenarios, and compares what `explain` finds with what happened."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcapd.analysis.report import as_dict
from pcapd.ctl.display.explain import explain
from tests.hosts.scenarios.play import Play
from tests.hosts.scenarios.stage import Stage

#: What one place alone cannot know.
BOTH_ONLY = {"lost_between"}
#: What one place sees of losses that two places see as `lost_between`.
ALONE = {"retransmissions"}


@dataclass(frozen=True)
class Outcome:
    """What one look at a scenario came to.

    Attributes:
        looked: The places: ``both``, ``client`` or ``server``.
        found, missed, false: Kinds.
        lines: The findings in words.
    """

    looked: str
    found: frozenset[str]
    missed: frozenset[str]
    false: frozenset[str]
    lines: tuple[str, ...]


def perform(play: Play, seed: int, directory: Path) -> tuple[list[Outcome], dict[str, Any]]:
    """Perform a scenario once; returns what was found with both places and with each, and what the wire did."""
    draw = random.Random(seed)
    with Stage(directory, seed, play.faults(draw)) as stage:
        play.run(stage, draw)
    play.after(stage, draw)
    wanted = {"both": play.must, "client": play.client - BOTH_ONLY, "server": play.server - BOTH_ONLY}
    allowed = play.must | play.may | play.client | play.server
    if "lost_between" in allowed:
        allowed |= ALONE
    files = stage.looks or {"both": stage.files, "client": stage.files[:1], "server": stage.files[1:]}
    outcomes = [look(name, files[name], wanted.get(name, frozenset()), allowed) for name in files]
    return outcomes, stage.truth


def look(name: str, files: list[Path], wanted: frozenset[str], allowed: frozenset[str]) -> Outcome:
    """Explain files, and compare."""
    report = as_dict(explain([str(file) for file in files]))
    loud = {finding["kind"] for finding in report["findings"] if finding["severity"] != "note"}
    lines = tuple(f"{one['severity']}: {one['kind']}: {one['summary']}" for one in report["findings"])
    return Outcome(name, frozenset(loud), wanted - loud, frozenset(loud - allowed), lines)
