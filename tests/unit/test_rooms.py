"""A package's docstring names each of its modules in one line, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [path.parent for path in sorted((ROOT / "pcapd").rglob("*/__init__.py"))]
PACKAGES += [path.parent for path in sorted((ROOT / "tests" / "kit").rglob("__init__.py"))]

#: One module, or several that belong together, at the beginning of a line: in code type, or in a table.
_IN_CODE_TYPE = re.compile(r"^(``\w+``(?:, ``\w+``)*)(?:$| )")
_IN_A_TABLE = re.compile(r"^([a-z]\w*)  +\S")


def named(docstring: str) -> list[str]:
    """The modules that a docstring names."""
    found = []
    for line in docstring.splitlines():
        match = _IN_CODE_TYPE.match(line) or _IN_A_TABLE.match(line)
        if match is not None:
            found += re.findall(r"\w+", match.group(1))
    return found


def there(package: Path) -> list[str]:
    """The modules and packages in it, private ones aside."""
    modules = [path.stem for path in package.glob("*.py") if not path.name.startswith("_")]
    return sorted(modules + [path.parent.name for path in package.glob("*/__init__.py")])


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_docstring_is_a_map(package: Path) -> None:
    """A package's docstring names each of its modules once, and no other."""
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    assert sorted(named(docstring)) == there(package)


def test_what_counts_as_named() -> None:
    """Names in code type or in a table at the beginning of a line count; those within a sentence do not."""
    text = "Look at ``aside``.\n\n``one``, ``two``\n    both\n``three``  a third\n====  ===\nfour  a fourth\nSee  x"
    assert named(text) == ["one", "two", "three", "four"]
