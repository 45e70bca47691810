"""docs/operations.rst says of every line that a daemon logs what it means."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pcapd

_SOURCES = Path(pcapd.__file__).parent
_OPERATIONS = _SOURCES.parent / "docs" / "operations.rst"
#: `twisted.logger.Logger`'s methods and the levels that they log at.
_LEVELS = {
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "error": "error",
    "failure": "critical",
    "critical": "critical",
}


def logged() -> set[tuple[str, str]]:
    """Every message in the sources, its values as `…`, with its level; without those that are a value alone."""
    found = set()
    for path in _SOURCES.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in _LEVELS
            ):
                owner = call.func.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                if name in ("log", "_log"):
                    text = ast.literal_eval(call.args[0])
                    found.add((re.sub(r"{\w+}", "…", text), _LEVELS[call.func.attr]))
    return found - {("…", "warn")}


def documented() -> Iterator[tuple[str, str]]:
    """What the table has."""
    section = _OPERATIONS.read_text().partition("\nEvery line\n")[2].partition("\nAudit records\n")[0]
    for row in re.findall(r"^   \* - (.*?)\n     - (\w+)\n", section, re.MULTILINE | re.DOTALL):
        for text in re.findall("``(.*?)``", row[0]):
            yield text, row[1]


def test_every_log_line_has_its_meaning() -> None:
    """Every log message is explained in the documentation."""
    # The configuration's warnings are made elsewhere than they are logged.
    warnings = {
        ("….private_key: … can be read by every user", "warn"),
        ("…: … can be changed by every user", "warn"),
    }
    assert logged() | warnings == set(documented())
