"""Who holds what, and when a limit is reached, when several processes share a database.  Pure.

A process is a holder.  Its lease ends `limits.LEASE` after it was last renewed, by the database's clock;
what it holds counts until then.  A holder may be slow, stopped, or cut off from the database, and does
not know at once that its lease has ended.  So it writes only under the condition that it still
holds what it writes to: a recording has one holder and one epoch at a time, whoever takes it over
increases the epoch, and what is written in an earlier epoch is refused.

The idea of a number that increases with each holder, so that a late writer is refused, is the fencing
token of M. Kleppmann, "How to do distributed locking" (2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from pcapd.errors import LimitReached

__all__ = ["Held", "Term", "lease_runs", "may_take", "may_write", "need_room"]


@dataclass(frozen=True)
class Held:
    """A running capture, as all processes see it.

    Attributes:
        id: The capture's id.
        identity: Its user.
        unattended: Whether it is a recording, which counts for the api and not for its user.
        about: What lists of captures show, as JSON values.
    """

    id: str
    identity: str
    unattended: bool
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """The present term of a recording.

    Attributes:
        holder: The process that records it; None for nobody.
        epoch: Number of the term, from 1 on.
        until_us: The end of the holder's lease, microseconds since the epoch; None without a holder, or
            if the holder is not known any longer.
    """

    holder: Optional[str]
    epoch: int
    until_us: Optional[int]


def lease_runs(until_us: Any, now_us: int) -> Any:
    """Whether what a holder holds counts.

    Args:
        until_us: The end of its lease, or a column with the ends of leases: then this is an SQL condition.
        now_us: By the database's clock, microseconds since the epoch.
    """
    return until_us > now_us


def need_room(running: Sequence[Held], wanted: Held, concurrent_captures: int, per_user: int) -> None:
    """Check that no limit is reached before one more capture.

    Args:
        running: The captures that count: of one process, or of all holders whose leases have not ended.

    Raises:
        LimitReached: There are too many captures, or too many of this user.
    """
    if len(running) >= concurrent_captures:
        raise LimitReached(f"{concurrent_captures} captures run already", "try again later")
    mine = sum(one.identity == wanted.identity and not one.unattended for one in running)
    if mine >= per_user and not wanted.unattended:
        raise LimitReached(f"you already run {mine} captures", "stop one of them")


def may_take(term: Term, holder: str, now_us: int) -> bool:
    """Whether a process may begin the next term of a recording.

    Args:
        holder: The process.
        now_us: By the database's clock, microseconds since the epoch.
    """
    return term.holder in (None, holder) or term.until_us is None or not lease_runs(term.until_us, now_us)


def may_write(term: Term, holder: str, epoch: int) -> bool:
    """Whether a process may still write what it recorded in a term."""
    return (term.holder, term.epoch) == (holder, epoch)
