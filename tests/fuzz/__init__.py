"""Bytes of a hostile peer for every decoder: see `tests.fuzz.targets` and ``bin/fuzz``.

The environment variable ``PCAPD_FUZZ_NATIVE`` names a directory with other builds of our compiled
modules, each in a directory of its package's name.  Everything here then uses them.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

#: A directory with other builds.
NATIVE_BUILDS = "PCAPD_FUZZ_NATIVE"


class _Builds(MetaPathFinder):
    """Finds the compiled modules in a directory."""

    def __init__(self, directory: Path) -> None:
        self._files = {f"pcapd.{file.parent.name}._native": file for file in directory.glob("*/_native*.so")}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module in the directory, if it is there."""
        if fullname not in self._files:
            return None
        return importlib.util.spec_from_file_location(fullname, self._files[fullname])


if os.environ.get(NATIVE_BUILDS):
    sys.meta_path.insert(0, _Builds(Path(os.environ[NATIVE_BUILDS])))
