"""Modules and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "pcapd"

#: Lines of a Python module, everything counted.
MODULE_MAX = 400
#: A table is looked up, not read.
TABLES = {"limits.py"}
#: Lines of a function's body, its docstring aside; and of half of all functions.
FUNCTION_MAX = 45
FUNCTION_MEDIAN = 5
#: Modules that are still longer.  They may only become shorter, and leave the list.
LONGER: dict[str, int] = {}


def functions() -> Iterator[tuple[str, int]]:
    """Every function with the lines of its body."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield f"{path.relative_to(PACKAGE)}: {node.name}", lines


def test_modules() -> None:
    """No module is longer than the limit."""
    lengths = {
        path.relative_to(PACKAGE).as_posix(): path.read_text().count("\n") for path in PACKAGE.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_MAX and name not in TABLES} == {}


def test_functions() -> None:
    """No function is longer than the limit, and half of them are short."""
    found = list(functions())
    assert {name: lines for name, lines in found if lines > FUNCTION_MAX} == {}
    assert statistics.median(lines for _, lines in found) <= FUNCTION_MEDIAN
