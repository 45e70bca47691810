"""The two implementations of what is compiled where it can be."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Callable, Iterator, Tuple

import pytest

NAMES = ("_reference", "_native")


def implementation(package: str, name: str) -> ModuleType:
    """One of them; skips the test when it is not built."""
    try:
        return import_module(f"pcapd.{package}.{name}")
    except ImportError as problem:
        pytest.skip(f"pcapd.{package}.{name} is not built: {problem}")


def implementations(package: str) -> Iterator[ModuleType]:
    """Those that are there, for property tests, which pytest-twisted cannot parametrize."""
    for name in NAMES:
        try:
            yield import_module(f"pcapd.{package}.{name}")
        except ImportError:
            assert name == "_native"


def outcome(function: Callable[..., Any], *args: object) -> Tuple[object, object]:
    """The result with its type, or the error with its words."""
    try:
        result = function(*args)
    except Exception as error:
        return type(error), str(error)
    return type(result), result
