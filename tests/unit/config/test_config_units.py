from __future__ import annotations

import ast
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.config import units
from pcapd.config.units import format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("100ms", 0.1),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is its number of seconds, exactly."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "1w", "1h30m", "5S", "1e3s", "٣s", "5s\n", "9" * 99 + "s"]
)
def test_no_durations(text: str) -> None:
    """A duration without a known unit is refused with an example."""
    with pytest.raises(ValueError, match="such as 500ms, 30s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("1B", 1),
        ("100MB", 100_000_000),
        ("100mb", 100_000_000),
        ("10GB", 10_000_000_000),
        ("64KiB", 65536),
        ("64 KiB", 65536),
        ("1.5GiB", 1_610_612_736),
        ("2TB", 2_000_000_000_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is its number of bytes: MB counts by 1000, MiB by 1024."""
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5", "10M", "1XB", "1e6", "٣", "10MB\n", "9" * 99])
def test_no_sizes(text: str) -> None:
    """A size that is ambiguous (10M) or malformed is refused with an example."""
    with pytest.raises(ValueError, match="such as 1500, 64KiB"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**49))
def test_written_sizes_are_read_back(size: int) -> None:
    """format_size writes what parse_size reads as the same number."""
    assert size == parse_size(format_size(size))


def test_written_sizes_are_short() -> None:
    """Bytes are written with the largest unit that is exact."""
    assert [format_size(n) for n in (0, 1000, 262144, 2**30)] == ["0", "1000", "256KiB", "1GiB"]


def test_units_suit_pcapctl() -> None:
    """The module is Python 3.9, and imports nothing but the standard library."""
    tree = ast.parse(inspect.getsource(units), feature_version=(3, 9))
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {"__future__", "decimal", "re"} == imports
