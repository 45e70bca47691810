"""Imports point down only (docs/architecture.rst); who imports what is read from the sources.

Every import counts, wherever it stands: inside a function, and below
``if TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, Mapping

import pytest

from tests.kit.imports import (
    REACTOR,
    ROOT,
    Tree,
    is_third_party,
    package_of,
    top,
)

#: Lowest first.  Within one layer, packages may import each other unless they
#: are of `STRANGERS`; a cycle is never allowed.
LAYERS = (
    {"errors", "limits", "running", "certificates"},
    {"packet"},
    {"records"},
    {"savefile", "wire", "clouds", "config"},
    {"merge"},
    {"analysis"},
    {"capture"},
    {"net"},
    {"agent", "api", "ctl"},
    {"options", "preflight", "starter", "tap", "workers"},
    {"main", "__main__"},
)
RANK = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
STRANGERS = {"agent", "api", "ctl"}

#: What these packages, with all that they import of ours, may use besides the
#: standard library.  For the rest there is `ONLY_IN`.
THIRD_PARTIES: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "limits": frozenset(),
    "running": frozenset(),
    "packet": frozenset(),
    "records": frozenset(),
    "savefile": frozenset(),
    "merge": frozenset(),
    "analysis": frozenset({"hpack"}),
    "wire": frozenset(),
    "clouds": frozenset(),
    "config": frozenset({"yaml", "cryptography", "OpenSSL"}),
    # Ships as one portable file, so: pure Python (PyYAML without its C part), and no Twisted.
    "ctl": frozenset({"wsproto", "click", "rich", "yaml", "hpack"}),
}

#: What reaches the kernel.
ONLY_IN = {"pcapy": "capture", "prctl": "capture", "ctypes": "capture"}

#: Bytes and values in, bytes and values out: no reactor, no sockets, no clock.
PURE = {"errors", "limits", "running", "packet", "records", "savefile", "merge", "analysis"}
PURE |= {"wire", "clouds", "config"}
IMPURE = {"asyncio", "logging", "select", "selectors", "signal", "socket", "ssl", "subprocess"}
IMPURE |= {"multiprocessing", "socketserver", "threading", "time"}

#: Run where there is no libpcap, and with nothing of ours that needs it.
WITHOUT_CAPTURE = {"api", "ctl"}

#: Where functions may import the reactor.
COMPOSITION = {"pcapd.main", "pcapd.tap"}
# --- the rules: each yields a sentence per violation -----------------------------


def unknown_packages(tree: Tree) -> Iterator[str]:
    """Every package has its layer."""
    for package in sorted({package_of(module) or "" for module in tree.modules} - {""} - set(RANK)):
        yield f"pcapd.{package} has no layer"


def upward_edges(tree: Tree) -> Iterator[str]:
    """Nothing imports from a higher layer, nor from a stranger in its own."""
    for found in tree.imports:
        importer, target = package_of(found.importer), package_of(found.target)
        # `pcapd` itself, which says the version, lies below everything.
        above = RANK.get(target or "", -1) > RANK.get(importer or "", -1)
        strangers = importer != target and {importer, target} <= STRANGERS
        if target and (above or strangers):
            yield f"{found}, which does not lie below it"


def cycles(tree: Tree) -> Iterator[str]:
    """No module imports itself through others."""
    edges = tree.edges()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            yield "cycle: " + " -> ".join([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(edges[module]):
                yield from visit(target, (*path, module))
            done.add(module)

    for module in sorted(edges):
        yield from visit(module, ())


def foreign_imports(tree: Tree) -> Iterator[str]:
    """Each package keeps to its third parties, also in what it imports."""
    for package, allowed in THIRD_PARTIES.items():
        modules = tree.reachable(package)
        for found in tree.imports:
            foreign = is_third_party(found.target) and top(found.target) not in allowed
            # Nothing at run time; mypy always has it.
            typing = found.for_typing and top(found.target) == "typing_extensions"
            if found.importer in modules and foreign and not typing:
                yield f"{found}, which {package} must do without"


def kernel_imports(tree: Tree) -> Iterator[str]:
    """Only capture touches libpcap, capabilities and the C library."""
    for found in tree.imports:
        place = ONLY_IN.get(top(found.target))
        if place is not None and package_of(found.importer) != place:
            yield f"{found}, which only {place} may"


def impure_imports(tree: Tree) -> Iterator[str]:
    """The pure packages see no socket, thread, clock or log."""
    for found in tree.imports:
        if package_of(found.importer) in PURE and top(found.target) in IMPURE:
            yield f"{found}, which a pure package must not"


def capture_where_there_is_no_libpcap(tree: Tree) -> Iterator[str]:
    """The api and pcapctl do not reach capture, not through others either."""
    for package in sorted(WITHOUT_CAPTURE):
        for module in sorted(tree.reachable(package)):
            if package_of(module) == "capture":
                yield f"{package} reaches {module}"


def reactor_imports(tree: Tree) -> Iterator[str]:
    """Only functions of the composition root import the reactor: importing it installs it."""
    for found in tree.imports:
        if found.target == REACTOR and not (found.in_function and found.importer in COMPOSITION):
            yield f"{found}: pass it in"


RULES = (
    unknown_packages,
    upward_edges,
    cycles,
    foreign_imports,
    kernel_imports,
    impure_imports,
    capture_where_there_is_no_libpcap,
    reactor_imports,
)


# --- tests -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours() -> Tree:
    """Return the tree of this checkout."""
    return Tree(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_ours(ours: Tree, rule: object) -> None:
    """The checkout keeps every rule."""
    assert callable(rule)
    assert list(rule(ours)) == []


def test_plugin_imports_nothing_of_ours() -> None:
    """The twistd plugin names pcapd.tap without importing it."""
    plugin = ROOT / "twisted" / "plugins" / "pcapd_plugin.py"
    tree = ast.parse(plugin.read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert set(imported) <= {"__future__", "twisted.application.service"}


def test_the_demo_does_without_the_tests() -> None:
    """The demo imports nothing of the tests and has nothing that only tests use."""
    for path in (ROOT / "demo").glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        imported += [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
        assert not {"tests", "pytest"} & set(map(top, imported)), path


def plant(root: Path, files: Mapping[str, str]) -> Tree:
    """Write a made-up package and read it."""
    for name, source in files.items():
        path = root / "pcapd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return Tree(root)


@pytest.mark.parametrize(
    ("rule", "files", "expected"),
    [
        (unknown_packages, {"cellar.py": ""}, "pcapd.cellar has no layer"),
        (
            upward_edges,
            {"wire/a.py": "from ..net import tls", "net/tls.py": ""},
            "pcapd.wire.a:1 imports pcapd.net.tls, which does not lie below it",
        ),
        (
            upward_edges,
            {"wire/__init__.py": "from typing import *\nif TYPE_CHECKING:\n    import pcapd.net"},
            "pcapd.wire:3 imports pcapd.net, which does not lie below it",
        ),
        (
            upward_edges,
            {"__init__.py": "from pcapd.errors import PcapdError"},
            "pcapd:1 imports pcapd.errors, which does not lie below it",
        ),
        (
            upward_edges,
            {"agent/a.py": "def f():\n    from pcapd.api.b import c", "api/b.py": ""},
            "pcapd.agent.a:2 imports pcapd.api.b, which does not lie below it",
        ),
        (
            cycles,
            {
                "wire/a.py": "from . import b",
                "wire/b.py": "from .c import d",
                "wire/c.py": "import pcapd.wire.a",
            },
            "cycle: pcapd.wire.a -> pcapd.wire.b -> pcapd.wire.c -> pcapd.wire.a",
        ),
        (
            foreign_imports,
            {"wire/a.py": "import attr"},
            "pcapd.wire.a:1 imports attr, which wire must do without",
        ),
        (
            foreign_imports,
            {
                "ctl/a.py": "from pcapd.config.units import x",
                "config/units.py": "",
                "config/__init__.py": "import cryptography",
            },
            "pcapd.config:1 imports cryptography, which ctl must do without",
        ),
        (
            foreign_imports,
            {"ctl/a.py": "from twisted.internet import defer"},
            "pcapd.ctl.a:1 imports twisted.internet, which ctl must do without",
        ),
        (
            foreign_imports,
            {"records/a.py": "from typing_extensions import Buffer"},
            "pcapd.records.a:1 imports typing_extensions, which records must do without",
        ),
        (
            kernel_imports,
            {"agent/a.py": "import pcapy"},
            "pcapd.agent.a:1 imports pcapy, which only capture may",
        ),
        (
            impure_imports,
            {"savefile/a.py": "from time import time"},
            "pcapd.savefile.a:1 imports time, which a pure package must not",
        ),
        (
            capture_where_there_is_no_libpcap,
            {"api/a.py": "import pcapd.net.b", "net/b.py": "from pcapd.capture import c", "capture/c.py": ""},
            "api reaches pcapd.capture.c",
        ),
        (
            reactor_imports,
            {"main.py": "from twisted.internet import reactor"},
            "pcapd.main:1 imports twisted.internet.reactor: pass it in",
        ),
        (
            reactor_imports,
            {"net/a.py": "def f():\n    import twisted.internet.reactor"},
            "pcapd.net.a:2 imports twisted.internet.reactor: pass it in",
        ),
    ],
)
def test_violations_are_found(tmp_path: Path, rule: object, files: Mapping[str, str], expected: str) -> None:
    """Each rule finds what breaks it in a made-up tree, so that its silence means something."""
    assert callable(rule)
    assert expected in list(rule(plant(tmp_path, files)))


def test_good_tree(tmp_path: Path) -> None:
    """A good tree gives no violations."""
    tree = plant(
        tmp_path,
        {
            "__init__.py": "",
            "errors.py": "",
            "wire/__init__.py": "from pcapd.wire.frames import Frame",
            "wire/frames.py": "import struct\nfrom ..errors import PcapdError",
            "savefile/__init__.py": "import pcapd.wire",
            "capture/source.py": "import ctypes, pcapy",
            "ctl/main.py": "import click, ssl\nfrom pcapd import __version__\nfrom pcapd.wire import Frame",
            "tap.py": "def f():\n    from twisted.internet import reactor",
        },
    )
    assert [violation for rule in RULES for violation in rule(tree)] == []
