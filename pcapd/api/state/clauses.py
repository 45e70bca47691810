"""The rules of terms as SQL conditions; `pcapd.api.state.rules` says what they mean."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, not_, or_

from pcapd.api.state.rules import lease_runs

__all__ = ["takeable", "writable"]


def takeable(
    holder: ColumnElement[Any], until_us: ColumnElement[Any], me: str, now_us: int
) -> ColumnElement[bool]:
    """Rows whose next term a process may begin: `rules.may_take`.

    Args:
        holder: The column of holders; NULL for nobody.
        until_us: The column of the ends of their leases; NULL if a holder is not known any longer, as in
            an outer join.
        me: The process.
        now_us: By the database's clock, microseconds since the epoch.
    """
    return or_(holder.is_(None), holder == me, until_us.is_(None), not_(lease_runs(until_us, now_us)))


def writable(
    holder: ColumnElement[Any], epoch: ColumnElement[Any], me: str, number: int
) -> ColumnElement[bool]:
    """Rows to which a process may still write what it recorded in a term: `rules.may_write`."""
    return and_(holder == me, epoch == number)
