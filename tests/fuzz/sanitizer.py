"""The compiled modules under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from tests.fuzz import NATIVE_BUILDS
from tests.fuzz.targets import COMPILED

__all__ = ["ROOT", "build", "environment"]

ROOT = Path(__file__).parents[2]

_FLAGS = (
    *("-shared", "-fPIC", "-g", "-O1", "-Wall", "-Wextra", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)


def build(
    directory: Path, packages: Iterable[str] = COMPILED, changed: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """Compile modules with the sanitizers in them.

    Args:
        directory: Where they go, each into a directory of its package's name.
        packages: Whose.
        changed: Other text of some sources, by their paths in the checkout.

    Raises:
        FileNotFoundError: There is no compiler.
        subprocess.CalledProcessError: They do not compile; what the compiler says is on stderr.
    """
    compiler = shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("gcc is needed")
    _copy_sources(directory / "sources", changed)
    include = f"-I{sysconfig.get_path('include')}"
    for package in packages:
        built = directory / package / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
        built.parent.mkdir(exist_ok=True)
        source = directory / "sources" / "pcapd" / package / "_native.c"
        subprocess.run([compiler, *_FLAGS, include, str(source), "-o", str(built)], check=True)
    return directory


def _copy_sources(directory: Path, changed: Mapping[str, str]) -> None:
    for source in sorted(ROOT.glob("pcapd/*/_*.[ch]")):
        name = source.relative_to(ROOT).as_posix()
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(changed.get(name) or source.read_text())


def environment(built: Path) -> dict[str, str]:
    """The environment of a Python that uses the modules from `build`."""
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {
        **os.environ,
        NATIVE_BUILDS: str(built),
        "LD_PRELOAD": runtime,
        # So that each object is one of the sanitizer's, with its guards around it.
        "PYTHONMALLOC": "malloc",
        # Python itself leaves memory behind at its end.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
