"""The C of pcapd.records under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from tests.fuzz.targets import NATIVE_FILE

__all__ = ["SOURCE", "build", "environment"]

SOURCE = Path(__file__).parents[2] / "pcapd" / "records" / "_native.c"

_FLAGS = (
    *("-shared", "-fPIC", "-g", "-O1", "-Wall", "-Wextra", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)


def build(directory: Path, source: Path = SOURCE) -> Path:
    """Compile the module with the sanitizers in it.

    Args:
        directory: Where it goes.
        source: Of the module.

    Raises:
        FileNotFoundError: There is no compiler.
        subprocess.CalledProcessError: It does not compile; the compiler's words are on stderr.
    """
    compiler = shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("gcc is needed")
    built = directory / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run([compiler, *_FLAGS, include, str(source), "-o", str(built)], check=True)
    return built


def environment(built: Path) -> dict[str, str]:
    """The environment of a Python that uses a module from `build`."""
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {
        **os.environ,
        NATIVE_FILE: str(built),
        "LD_PRELOAD": runtime,
        # So that each object is one of the sanitizer's, with its guards around it.
        "PYTHONMALLOC": "malloc",
        # Python itself leaves memory behind at its end.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
