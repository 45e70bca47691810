"""Reads one mapping of a configuration, key by key, and continues after a problem.

A `Section` returns the checked values of its keys.  For a value that cannot be used,
it notes a problem with the key's path and returns a stand-in, so that the caller
continues and finds the next problem; `pcapd.config.parse` never returns a configuration
that has problems.  The keys that were requested are the known ones; all other keys of
the mapping are reported as unknown.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Final, Iterable, Iterator, List, Mapping, Optional, Tuple, TypeVar, Union, cast

from pcapd.config import checks
from pcapd.config.checks import Check
from pcapd.limits import KEY_SHOWN_MAX

__all__ = ["CaFile", "Directory", "KeyPair", "Report", "Section"]

T = TypeVar("T")
D = TypeVar("D")

#: Replaces a value that cannot be used.  Its problem is noted, so that the stand-in is never
#: used outside this package.
_STAND_IN: Final = None


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, and the path of the section that names them."""

    where: str
    certificate: Path
    private_key: Path


@dataclass(frozen=True)
class CaFile:
    """A CA file, and the path of the key that names it."""

    where: str
    file: Path


@dataclass(frozen=True)
class Directory:
    """A directory that must exist, and the path of the key that names it."""

    where: str
    directory: Path


@dataclass
class Report:
    """Problems and warnings, one sentence each, and the files still to be checked."""

    problems: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    key_pairs: List[KeyPair] = field(default_factory=list)
    ca_files: List[CaFile] = field(default_factory=list)
    directories: List[Directory] = field(default_factory=list)


class Section:
    """One mapping of a configuration.

    Args:
        report: Collects the problems.
        directory: The directory to which relative paths are relative.
        values: The mapping that was parsed from YAML.
        path: The path of the mapping in the file; empty for the file itself.
    """

    def __init__(
        self, report: Report, directory: Path, values: Mapping[object, object], path: str = ""
    ) -> None:
        self.report = report
        self.directory = directory
        self.path = path
        self._values = values
        self._known: List[str] = []
        self._keys_are_names = False

    def has(self, key: str) -> bool:
        """Whether the key is present and not null."""
        return self._value(key) is not None

    def required(self, key: str, check: Check[T], why: str = "") -> T:
        """The value of a key that must be present.

        Args:
            check: The check of the value.
            why: What would happen without the value, for the message.
        """
        if self._value(key) is None:
            self._missing(key, why)
            return cast("T", _STAND_IN)
        return self._checked(key, check)

    def optional(self, key: str, check: Check[T], default: D) -> Union[T, D]:
        """The value of a key, or the default if the key is absent or null."""
        return default if self._value(key) is None else self._checked(key, check)

    def items(self, key: str, check: Check[T], why: str = "") -> Tuple[T, ...]:
        """The valid items of a key's list, which must have at least one item.

        Args:
            check: The check of an item.
            why: What would happen without items, for the message.
        """
        if self._value(key) in (None, []):  # an empty list is treated like a missing one
            self._missing(key, why)
            return ()
        return tuple(self._good_items(key, self._checked(key, checks.items) or (), check))

    def optional_items(self, key: str, check: Check[T]) -> Tuple[T, ...]:
        """Like `items`, for a list that may be empty or absent."""
        if self._value(key) in (None, []):
            return ()
        return tuple(self._good_items(key, self._checked(key, checks.items) or (), check))

    def required_section(self, key: str, build: Callable[[Section], T], why: str = "") -> T:
        """The result of `build` for the mapping of a key that must be present."""
        if self._value(key) is None:
            self._missing(key, why)
            return cast("T", _STAND_IN)
        return self._built(key, self._value(key), build)

    def optional_section(self, key: str, build: Callable[[Section], T]) -> Optional[T]:
        """The result of `build` for the mapping of a key; None if it is absent or null."""
        value = self._value(key)
        return None if value is None else self._built(key, value, build)

    def default_section(self, key: str, build: Callable[[Section], T]) -> T:
        """The result of `build` for the mapping of a key, or for an empty one if it is absent."""
        value = self._value(key)
        return self._built(key, {} if value is None else value, build)

    def names(self) -> List[str]:
        """All valid keys, for a mapping whose keys are names chosen by the operator."""
        self._keys_are_names = True
        return list(self._good_names())

    def problem(self, key: str, message: str) -> None:
        """Note a problem of a key."""
        self.report.problems.append(f"{self._path(key)}: {message}")

    def warning(self, key: str, message: str) -> None:
        """Note a warning about a key."""
        self.report.warnings.append(f"{self._path(key)}: {message}")

    def finish(self) -> None:
        """Note every unknown key as a problem."""
        if self._keys_are_names:
            return
        for key in self._values:
            if key not in self._known:
                self.problem(_label(key), f"unknown key{self._suggestion(key)}")

    def _missing(self, key: str, why: str) -> None:
        self.problem(key, f"required: {why}" if why else "required")

    def _value(self, key: str) -> object:
        if key not in self._known:
            self._known.append(key)
        return self._values.get(key)

    def _built(self, key: str, value: object, build: Callable[[Section], T]) -> T:
        if not isinstance(value, dict):
            self.problem(key, f"must be a mapping, not {checks.kind(value)}")
            return cast("T", _STAND_IN)
        section = Section(self.report, self.directory, value, self._path(key))
        built = build(section)
        section.finish()
        return built

    def _checked(self, key: str, check: Check[T]) -> T:
        try:
            return check(self._values[key])
        except ValueError as error:
            self.problem(key, str(error))
            return cast("T", _STAND_IN)

    def _good_items(self, key: str, values: Iterable[object], check: Check[T]) -> Iterator[T]:
        for index, value in enumerate(values):
            try:
                yield check(value)
            except ValueError as error:
                self.problem(f"{key}[{index}]", str(error))

    def _good_names(self) -> Iterator[str]:
        for key in self._values:
            try:
                yield checks.name(key)
            except ValueError as error:
                self.problem(_label(key), str(error))

    def _suggestion(self, key: object) -> str:
        close = difflib.get_close_matches(key, self._known, n=1) if isinstance(key, str) else []
        return f", did you mean {close[0]}?" if close else f"; known here: {', '.join(self._known)}"

    def _path(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _label(key: object) -> str:
    """A key as text for a path, shortened, because in YAML a key may be any value."""
    if not isinstance(key, str):
        return f"({checks.kind(key)})"
    return key[:KEY_SHOWN_MAX] if key.isprintable() else repr(key[:KEY_SHOWN_MAX])
