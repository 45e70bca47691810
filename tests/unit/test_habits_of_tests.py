"""Rules that the tests themselves keep."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator, Optional, Union

import pytest

TESTS = Path(__file__).resolve().parents[1]
#: At the beginning of a sentence, they need the sentence before it.
PRONOUNS = {"And", "Also", "He", "It", "Its", "Likewise", "Nor", "Or", "She", "So", "Their", "Then", "They"}
Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Each module below tests."""
    for path in sorted(TESTS.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """The tests of a module."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield node


def problem(docstring: Optional[str]) -> str:
    """What is wrong with a test's docstring; empty when nothing is."""
    if not docstring:
        return "has no docstring"
    sentence = docstring.partition("\n\n")[0]
    if not sentence.endswith((".", ":")):
        return "has a docstring that begins with no whole sentence"
    if sentence.split()[0].strip(",;.") in PRONOUNS:
        return "has a docstring that needs the test before it"
    return ""


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """Each module below tests, parsed once."""
    return dict(modules())


def test_docstrings(trees: dict[Path, ast.Module]) -> None:
    """Each test begins with a sentence that is understood without the other tests."""
    found = [
        f"{path.relative_to(TESTS)}::{function.name} {words}"
        for path, tree in trees.items()
        for function in functions_of(tree)
        if (words := problem(ast.get_docstring(function)))
    ]
    assert found == []


@pytest.mark.parametrize("docstring", ["", "It works.", "So do others.", "Likewise.", "A fragment"])
def test_a_bad_docstring_is_found(docstring: str) -> None:
    """A missing docstring, one that opens with a pronoun, and one without an end are found."""
    assert problem(docstring)
    assert not problem("A capture is complete.")


def test_imports(trees: dict[Path, ast.Module]) -> None:
    """Modules of the tests are imported by their whole names, and none from a module of tests."""
    ours = {path.stem for path in trees} | {path.name for path in TESTS.rglob("*") if path.is_dir()}
    ours -= {"__init__", "__main__", "conftest", "tests"}
    found = [
        f"{path.relative_to(TESTS)}:{node.lineno} imports {name}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        for name in imported(node)
        if name.startswith(".") or name.partition(".")[0] in ours or re.search(r"^tests\..*\btest_", name)
    ]
    assert found == []


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports, relative ones with their dots."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []


def test_every_directory_is_a_package(trees: dict[Path, ast.Module]) -> None:
    """Each directory with modules has an __init__.py, so that pytest puts only the checkout on sys.path."""
    assert [path for path in {path.parent for path in trees} if not (path / "__init__.py").is_file()] == []


def test_no_test_calls_another(trees: dict[Path, ast.Module]) -> None:
    """Tests share helpers and fixtures, and never call each other."""
    found = [
        f"{path.relative_to(TESTS)}::{function.name} calls {call.func.id}"
        for path, tree in trees.items()
        for function in functions_of(tree)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.startswith("test_")
    ]
    assert found == []


def test_documents_name_tests_that_exist(trees: dict[Path, ast.Module]) -> None:
    """Every test, and every path below tests, that a document names exists."""
    there = {function.name for tree in trees.values() for function in functions_of(tree)}
    there |= {path.stem for path in trees}
    for document in [*TESTS.parent.glob("*.rst"), *TESTS.parent.glob("docs/*.rst")]:
        text = document.read_text()
        assert {name for name in re.findall(r"\b(test_\w+)", text) if name not in there} == set(), (
            document.name
        )
        paths = re.findall(r"\btests/[\w/.]*\w", text)
        assert [path for path in paths if not (TESTS.parent / path).exists()] == [], document.name
