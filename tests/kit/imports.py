"""The imports of a package's modules, read from the sources; those in functions count too."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional

ROOT = Path(__file__).resolve().parents[2]

REACTOR = "twisted.internet.reactor"

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Import:
    """One name that one module imports.

    Attributes:
        target: The absolute name of what is imported: the module where there is
            one of ours of that name, else as it is written.
        in_function: It happens only when a function is called.
        for_typing: It never happens: it stands below ``if TYPE_CHECKING``.
    """

    importer: str
    target: str
    line: int
    in_function: bool
    for_typing: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


class Tree:
    """The modules of a package ``pcapd`` below a directory, and their imports."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = {_module_name(path.relative_to(root)): path for path in root.glob("pcapd/**/*.py")}
        self.imports = [found for module in sorted(self._files) for found in self._imports_of(module)]

    @property
    def modules(self) -> set[str]:
        """Names of all modules."""
        return set(self._files)

    def _imports_of(self, module: str) -> Iterator[Import]:
        tree = ast.parse(self._files[module].read_text(), filename=str(self._files[module]))
        for node, around in _walk(tree):
            in_function = any(isinstance(outer, FUNCTIONS) for outer in around)
            for_typing = any(_is_type_checking(outer) for outer in around)
            for target in self._targets(node, module):
                yield Import(module, target, node.lineno, in_function, for_typing)

    def _targets(self, node: ast.stmt, module: str) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = self._base(node, module)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                # `from package import module` or `from module import name`?
                yield full if full in self._files or full == REACTOR else base

    def _base(self, node: ast.ImportFrom, module: str) -> str:
        if not node.level:
            return node.module or ""
        is_package = self._files[module].name == "__init__.py"
        parents = module.split(".")
        parents = parents[: len(parents) - node.level + is_package]
        return ".".join([*parents, node.module] if node.module else parents)

    def reachable(self, package: str) -> set[str]:
        """Return the modules of a package and all that importing them imports of ours."""
        edges = self.edges()
        found: set[str] = set()
        todo = [module for module in self.modules if package_of(module) == package]
        while todo:
            module = todo.pop()
            if module not in found:
                found.add(module)
                todo += [*edges.get(module, ()), *_parents(module)]
        return found & self.modules

    def edges(self) -> dict[str, set[str]]:
        """Return which of our modules each of our modules imports."""
        result: dict[str, set[str]] = {module: set() for module in self.modules}
        for found in self.imports:
            if found.target in self.modules and found.target != found.importer:
                result[found.importer].add(found.target)
        return result


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


def _walk(node: ast.AST, *around: ast.AST) -> Iterator[tuple[ast.stmt, tuple[ast.AST, ...]]]:
    """Yield every import with the nodes around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, (*around, node)
        yield from _walk(child, *around, node)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def package_of(module: str) -> Optional[str]:
    """Return the first name below ``pcapd``; None for ``pcapd`` itself and for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pcapd" and len(parts) > 1 else None


def top(module: str) -> str:
    """Return the top-level package of a module."""
    return module.split(".", maxsplit=1)[0]


def is_third_party(module: str) -> bool:
    """Tell whether a module is neither ours nor of the standard library."""
    return top(module) != "pcapd" and top(module) not in sys.stdlib_module_names
