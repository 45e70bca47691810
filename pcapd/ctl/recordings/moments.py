"""The times that users write.  Pure."""

from __future__ import annotations

import datetime
import re

__all__ = ["parse_moment", "rfc3339", "shown"]

_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}(?:\.[0-9]{1,6})?))?")
_FRACTION = re.compile(r"\.([0-9]{1,9})")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)


def parse_moment(text: str, now: datetime.datetime) -> int:
    """A time of RFC 3339, or one without a zone, or a time of day such as ``03:00``, as microseconds.

    Without a zone, it is in that of `now`.  A time of day is the last one before `now`.

    Args:
        now: The present time, with the user's time zone.

    Returns:
        Microseconds since the epoch.

    Raises:
        ValueError: The text has another form.
    """
    clock = _CLOCK.fullmatch(text.strip())
    try:
        moment = _last(clock, now) if clock is not None else _parsed(text.strip(), now)
    except (ValueError, OverflowError):
        raise ValueError("is not a time, such as 03:00, or 2026-11-29T03:00:00Z") from None
    return (moment - _EPOCH) // _MICROSECOND


def _last(clock: re.Match[str], now: datetime.datetime) -> datetime.datetime:
    seconds = float(clock[3] or 0)
    moment = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
    if seconds >= 60:
        raise ValueError("seconds")
    moment += datetime.timedelta(seconds=seconds)
    return moment if moment <= now else moment - datetime.timedelta(days=1)


def _parsed(text: str, now: datetime.datetime) -> datetime.datetime:
    # Before Python 3.11, fromisoformat reads neither a Z nor fractions of other lengths.
    text = re.sub(r"[zZ]$", "+00:00", text)
    text = _FRACTION.sub(lambda found: f".{found[1][:6]:0<6}", text, count=1)
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo)


def rfc3339(us: int) -> str:
    """A time for the api, in UTC with microseconds.

    Args:
        us: Microseconds since the epoch.
    """
    return f"{_EPOCH + us * _MICROSECOND:%Y-%m-%dT%H:%M:%S.%fZ}"


def shown(us: object) -> str:
    """A time for the user, in UTC with seconds; ``-`` for what is not one.

    Args:
        us: Microseconds since the epoch, from the api.
    """
    if not isinstance(us, int) or not 0 <= us < 2**53:
        return "-"
    return f"{_EPOCH + us * _MICROSECOND:%Y-%m-%dT%H:%M:%SZ}"
