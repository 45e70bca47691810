"""The ways that docs/architecture.rst describes are ways through the modules that there are."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.kit.imports import ROOT, Tree

#: Headings of the sections, each of which begins with a way: a line for each process.
WAYS = ("Follow one packet", "Follow one request")
STEP = re.compile(r" (→|⇢) ")


def way(heading: str) -> dict[str, str]:
    """The lines of the first literal block below a heading, by process."""
    _, found, rest = (ROOT / "docs" / "architecture.rst").read_text().partition(f"{heading}\n---")
    assert found, heading
    block = rest.partition("::\n\n")[2].partition("\n\n")[0]
    lines = dict(line.split(maxsplit=1) for line in re.sub(r"\n {12,}", " ", block).splitlines())
    assert set(lines) == {"agent", "api", "pcapctl"}
    return lines


@pytest.fixture(scope="module")
def tree() -> Tree:
    """The modules of this checkout."""
    return Tree(ROOT)


@pytest.mark.parametrize("process", ["agent", "api", "pcapctl"])
@pytest.mark.parametrize("heading", WAYS)
def test_a_way(tree: Tree, heading: str, process: str) -> None:
    """Each module of a documented way exists and occurs once, and → is an import in either direction."""
    text = way(heading)[process]
    modules = [f"pcapd.{name.strip().replace('/', '.')}" for name in STEP.split(text)[::2]]
    assert [module for module in modules if module not in tree.modules] == []
    assert len(set(modules)) == len(modules) > 2
    edges = tree.edges()
    for (before, after), arrow in zip(pairwise(modules), STEP.findall(text)):
        imported = after in edges[before] or before in edges[after]
        assert imported == (arrow == "→"), f"{before} {arrow} {after}"
