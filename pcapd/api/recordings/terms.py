"""Who records what: what a process learns when it looks at the running recordings of all processes.  Pure.

The rules are those of `pcapd.api.state.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum, auto

from pcapd.api.recordings.tables import Clip
from pcapd.api.recordings.values import RUNNING
from pcapd.api.state.rules import Term, may_take, may_write

__all__ = ["Outcome", "Review", "Seen", "Survey", "review"]


class Outcome(Enum):
    """What became of something that a process wrote in its term."""

    DONE = auto()
    GONE = auto()  #: the recording was deleted
    LOST = auto()  #: another term has begun, so nothing was written


@dataclass(frozen=True)
class Seen:
    """A recording that runs, or that has clips which are not made yet.

    Attributes:
        state: As in the index.
        term: Its present term.
        ending: Why its holder is asked to end it; empty if it is not.
    """

    id: str
    state: str
    term: Term
    ending: str = ""


@dataclass(frozen=True)
class Survey:
    """All recordings that concern a holder.

    Attributes:
        now_us: When this was true, by the database's clock.
        seen: The recordings.
        clips: The clips that are not made yet.
        bytes: Of all segments and clips of all recordings.
    """

    now_us: int
    seen: Sequence[Seen]
    clips: Sequence[Clip]
    bytes: int


@dataclass(frozen=True)
class Review:
    """What a process has to do after it looked.

    Attributes:
        gone: Recordings that were deleted.
        lost: Recordings that it does not hold any longer.
        ending: Recordings that it is asked to end, with the reason.
        clips: Clips that it has to make.
        free: Recordings that nobody records, or whose clips nobody makes.
    """

    gone: Sequence[str] = ()
    lost: Sequence[str] = ()
    ending: Mapping[str, str] = field(default_factory=dict)
    clips: Sequence[Clip] = ()
    free: Sequence[Seen] = ()


def review(survey: Survey, me: str, held: Mapping[str, int], busy: Set[str], *, settled: bool) -> Review:
    """What a process has to do.

    Args:
        me: The process.
        held: What it held when the survey was made: epochs by recording.
        busy: Recordings that it begins at present.
        settled: Whether other holders have had time to renew their leases.  When the database comes back
            all leases may have ended, and nobody shall lose recordings because another process is faster.
    """
    seen = {one.id: one for one in survey.seen}
    gone = [id for id in held if id not in seen]
    lost = [id for id, epoch in held.items() if id in seen and not may_write(seen[id].term, me, epoch)]
    mine = {one.id for one in survey.seen if one.term.holder == me}
    ending = {
        one.id: one.ending for one in survey.seen if one.id in mine and one.ending and one.state in RUNNING
    }
    clips = [clip for clip in survey.clips if clip.recording in mine]
    free = [
        one
        for one in survey.seen
        if one.id not in held and one.id not in busy and _free(one, me, survey.now_us, settled=settled)
    ]
    return Review(gone, lost, ending, clips, free)


def _free(one: Seen, me: str, now_us: int, *, settled: bool) -> bool:
    term = one.term
    if term.holder == me and one.state not in RUNNING:
        return False  # its clips are made here
    # A holder whose lease is not there has given it up.
    patient = settled or term.holder in (None, me) or term.until_us is None
    return patient and may_take(term, me, now_us)
