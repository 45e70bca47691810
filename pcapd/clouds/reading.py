"""Reads an authority's JSON answers; every invalid answer raises the same error."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar

from pcapd.errors import ResolverUnavailable
from pcapd.limits import NAME_MAX

__all__ = ["AGAIN", "AnswerReader", "json_object", "printable", "retry_seconds"]

T = TypeVar("T")

#: The hint for temporary problems.
AGAIN = "try again later"


class AnswerReader:
    """Reads an authority's answers.

    Each method raises `ResolverUnavailable` for an invalid value.  The argument ``what``
    describes the answer in the error message.

    Args:
        whose: The name of the authority in the genitive, such as ``the director's``.
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose

    def nonsense(self, what: str) -> ResolverUnavailable:
        """The error for an invalid answer."""
        return ResolverUnavailable(f"{self._whose} answer about {what} makes no sense", AGAIN)

    def value(self, body: bytes, what: str) -> Any:
        """Parse a body."""
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self.nonsense(what) from error

    def mapping(self, body: bytes, what: str) -> Dict[str, Any]:
        """Parse a body that must be a JSON object."""
        value = self.value(body, what)
        if not isinstance(value, dict):
            raise self.nonsense(what)
        return value

    def entries(self, value: object, what: str) -> List[Dict[str, Any]]:
        """Check a list of objects."""
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self.nonsense(what)
        return value

    def texts(self, value: object, what: str) -> List[str]:
        """Check a list of strings; a missing value is an empty list."""
        texts = value or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.nonsense(what)
        return texts

    def member(self, value: Mapping[str, Any], key: str, kind: Type[T], what: str) -> T:
        """Get a member of exactly this type; for example, a JSON true is not a number."""
        member = value.get(key)
        if type(member) is not kind:
            raise self.nonsense(what)
        return member

    def matching(self, pattern: re.Pattern[str], value: Mapping[str, Any], key: str, what: str) -> str:
        """Get a member that is a string and matches the pattern."""
        text = self.member(value, key, str, what)
        if not pattern.fullmatch(text):
            raise self.nonsense(what)
        return text


def json_object(body: bytes) -> Dict[str, Any]:
    """Parse a JSON object; returns an empty one for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def printable(text: str) -> str:
    """Make text safe to show and log: at most `NAME_MAX` characters, no control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:NAME_MAX])


def retry_seconds(retry_after: Optional[str]) -> Optional[int]:
    """Seconds of ``Retry-After`` (RFC 9110, section 10.2.3); None for a date or an unlikely value."""
    seconds = (retry_after or "").strip()
    known = seconds.isascii() and seconds.isdigit() and len(seconds) < 6
    return int(seconds) if known else None
