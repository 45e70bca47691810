"""Types of options with a unit: sizes, durations, places."""

from __future__ import annotations

import re
from typing import Any, Callable, List

import click

from pcapd.config.units import parse_duration, parse_size
from pcapd.ctl.sinks.fileoptions import parse_place

__all__ = ["Place", "Quantity", "megabytes", "parse_time", "size_with_unit"]

_QUANTITIES = re.compile(r"[0-9]+[a-z]+")
_COMPOUND = re.compile(r"(?:[0-9]{1,9}(?:h|ms|m|s)){2,4}")


class Quantity(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A value with a unit."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Read it."""
        try:
            quantity = self._parse(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)
        if quantity <= 0:
            self.fail(f"{value!r} must be more than 0", param, ctx)
        return quantity


class Place(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Host and port."""

    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Read it."""
        try:
            return parse_place(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def size_with_unit(text: str) -> int:
    """Bytes in ``100MB``.

    Raises:
        ValueError: The text has another form, or no unit.
    """
    if text.isdigit():
        raise ValueError("needs a unit, such as 100MB or 64KiB")
    return parse_size(text)


def parse_time(text: str) -> float:
    """Seconds in ``90``, ``90s`` or ``1h30m``.

    Raises:
        ValueError: The text has another form.
    """
    return float(text) if text.isascii() and text.isdigit() else sum(map(parse_duration, _parts(text)))


def _parts(text: str) -> List[str]:
    """The quantities of ``1h30m``; a text of another form as a whole."""
    return _QUANTITIES.findall(text) if _COMPOUND.fullmatch(text) else [text]


def megabytes(text: str) -> int:
    """Bytes in ``100``, which counts 1000000 bytes each, or ``100MB``.

    Raises:
        ValueError: The text has another form.
    """
    return int(text) * 1_000_000 if text.isascii() and text.isdigit() else parse_size(text)
