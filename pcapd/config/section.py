"""Reading one mapping of a configuration, key by key, without stopping at a problem.

A `Section` hands out the values of its keys, checked.  Where one cannot be
used it notes a problem with the key's path and hands out a stand-in, so that
the caller just goes on to find the next; `pcapd.config.parse` never lets go of
a value from a survey that has problems.  The keys that were asked for are the
ones that exist: whatever is left over at the end is an unknown key.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Final, Iterable, Iterator, List, Mapping, Optional, Tuple, TypeVar, Union, cast

from pcapd.config import checks
from pcapd.config.checks import Check

__all__ = ["CaFile", "Directory", "KeyPair", "Report", "Section"]

T = TypeVar("T")
D = TypeVar("D")

#: Takes the place of a value that cannot be used; its problem is noted, so
#: nobody outside this package will ever see it.
_STAND_IN: Final = None
#: characters of a key that a message shows.
_LABEL_MAX: Final = 64


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, and the path of the section that names them."""

    where: str
    certificate: Path
    private_key: Path


@dataclass(frozen=True)
class CaFile:
    """A file of trusted certificates, and the path of the key that names it."""

    where: str
    file: Path


@dataclass(frozen=True)
class Directory:
    """A directory that must be there, and the path of the key that names it."""

    where: str
    directory: Path


@dataclass
class Report:
    """What was found on the way, one sentence each, and the files yet to be looked at."""

    problems: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    key_pairs: List[KeyPair] = field(default_factory=list)
    ca_files: List[CaFile] = field(default_factory=list)
    directories: List[Directory] = field(default_factory=list)


class Section:
    """One mapping.

    Args:
        report: Takes the problems.
        directory: Where relative file names are.
        values: As YAML gave them.
        path: Of the mapping in the file; empty for the file itself.
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
        """Whether the key is there and not null."""
        return self._value(key) is not None

    def required(self, key: str, check: Check[T], why: str = "") -> T:
        """Value of a key that must be there.

        Args:
            check: What it may be.
            why: What would happen without it, for the message.
        """
        if self._value(key) is None:
            self._missing(key, why)
            return cast("T", _STAND_IN)
        return self._checked(key, check)

    def optional(self, key: str, check: Check[T], default: D) -> Union[T, D]:
        """Value of a key, or the default where the key is absent or null."""
        return default if self._value(key) is None else self._checked(key, check)

    def items(self, key: str, check: Check[T], why: str = "") -> Tuple[T, ...]:
        """The list of a key, which must hold at least one item; only the good ones.

        Args:
            check: What an item may be.
            why: What would happen without any, for the message.
        """
        if self._value(key) in (None, []):  # an empty list says as little as none
            self._missing(key, why)
            return ()
        return tuple(self._good_items(key, self._checked(key, checks.items) or (), check))

    def optional_items(self, key: str, check: Check[T]) -> Tuple[T, ...]:
        """Like `items`, of a list that may be empty or absent."""
        if self._value(key) in (None, []):
            return ()
        return tuple(self._good_items(key, self._checked(key, checks.items) or (), check))

    def required_section(self, key: str, build: Callable[[Section], T], why: str = "") -> T:
        """What `build` makes of the mapping of a key that must be there."""
        if self._value(key) is None:
            self._missing(key, why)
            return cast("T", _STAND_IN)
        return self._built(key, self._value(key), build)

    def optional_section(self, key: str, build: Callable[[Section], T]) -> Optional[T]:
        """What `build` makes of the mapping of a key; None where it is absent or null."""
        value = self._value(key)
        return None if value is None else self._built(key, value, build)

    def default_section(self, key: str, build: Callable[[Section], T]) -> T:
        """What `build` makes of the mapping of a key; of an empty one where it is absent or null."""
        value = self._value(key)
        return self._built(key, {} if value is None else value, build)

    def names(self) -> List[str]:
        """All keys that are good, for a mapping whose keys are names and not ours."""
        self._keys_are_names = True
        return list(self._good_names())

    def problem(self, key: str, words: str) -> None:
        """Note what is wrong with a key."""
        self.report.problems.append(f"{self._path(key)}: {words}")

    def warning(self, key: str, words: str) -> None:
        """Note what is unwise about a key."""
        self.report.warnings.append(f"{self._path(key)}: {words}")

    def finish(self) -> None:
        """Note every key that nobody asked for."""
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
    """A key as a path shows it; bounded, because it may be anything that YAML can write."""
    if not isinstance(key, str):
        return f"({checks.kind(key)})"
    return key[:_LABEL_MAX] if key.isprintable() else repr(key[:_LABEL_MAX])
