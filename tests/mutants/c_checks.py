"""The same for C: an ``if`` that ends in a refusal never finds what it looks for.

By its words and brackets, not by a parser: our C is plain
enough, and what does not compile without a check is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.mutants.checks import Check, numbered

__all__ = ["c_checks_of"]

_FUNCTION = re.compile(r"^(\w+)\(", re.MULTILINE)
_IF = re.compile(r"\bif \(")
_REFUSAL = re.compile(
    r"\b(return (NULL|false|-1|0|at|without_ip)\b|return;|goto |refuse_|PyErr_)|\b(break|continue);"
)


def c_checks_of(text: str) -> list[Check]:
    """All checks of a C source, in the order of their lines."""
    return numbered(list(_checks(text)))


def _checks(text: str) -> Iterator[Check]:
    for found in _IF.finditer(text):
        start = found.end()
        end = _closing(text, start)
        if not _REFUSAL.search(_body(text, end + 1)):
            continue
        wrapped = re.match(r"UNLIKELY\(", text[start:end])
        if wrapped and _closing(text, start + wrapped.end()) == end - 1:
            start, end = start + wrapped.end(), end - 1
        place = _FUNCTION.findall(text, 0, start)[-1]
        for first, last in _operands(text, start, end):
            words = " ".join(text[first:last].split())
            line = text.count("\n", 0, first) + 1
            # Still computed: what it does beside may be needed.
            yield Check(f"{place} [refuse] {words}", line, first, last, f"(({text[first:last]}) && 0)")


def _operands(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of ``a || b``, at the outermost level."""
    depth, first = 0, start
    for at in range(start, end):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0 and text.startswith("||", at):
            yield _stripped(text, first, at)
            first = at + 2
    yield _stripped(text, first, end)


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    words = text[start:end]
    return start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip())


def _closing(text: str, start: int) -> int:
    """Where the bracket closes that was open before `start`."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    raise ValueError("brackets that do not close")


def _body(text: str, at: int) -> str:
    """The statement or the block that begins there."""
    rest = text[at:].lstrip()
    if not rest.startswith("{"):
        return rest[: rest.index(";") + 1]
    depth = 0
    for position, char in enumerate(rest):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return rest[:position]
    raise ValueError("braces that do not close")
