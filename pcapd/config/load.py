"""Reads a configuration and the files that it names; the package's only module with I/O."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Iterator, Mapping, Optional, TypeVar, Union

from pcapd.config.certificates import (
    check_cas,
    check_same_key,
    check_validity,
    read_certificate,
    read_private_key,
)
from pcapd.config.document import read_document
from pcapd.config.parse import Survey, survey_agent, survey_api
from pcapd.config.schema import AgentConfig, ApiConfig
from pcapd.config.section import KeyPair, Report
from pcapd.config.units import format_size
from pcapd.errors import ConfigError
from pcapd.limits import CONFIG_MAX

__all__ = ["load_agent", "load_api"]

C = TypeVar("C", AgentConfig, ApiConfig)

#: Keys that are valid only in the file of one role.
_KEYS = {
    "agent": {field.name for field in fields(AgentConfig)} - {field.name for field in fields(ApiConfig)},
    "api": {field.name for field in fields(ApiConfig)} - {field.name for field in fields(AgentConfig)},
}


def load_agent(
    path: Union[str, Path], *, host_name: Optional[str] = None, now: Optional[datetime] = None
) -> AgentConfig:
    """Read an agent's configuration and check the files that it names.

    Args:
        path: The YAML file; relative paths in it are relative to its directory.
        host_name: The default id; None for the machine's host name.
        now: The time at which certificates must be valid, with its time zone; None for now.

    Raises:
        ConfigError: All problems of the file and of the files that it names.
    """
    return _load(Path(path), survey_agent, host_name, now)


def load_api(
    path: Union[str, Path], *, host_name: Optional[str] = None, now: Optional[datetime] = None
) -> ApiConfig:
    """Read an api's configuration and check the files that it names; like `load_agent`."""
    return _load(Path(path), survey_api, host_name, now)


def _load(
    path: Path,
    survey: Callable[[Mapping[object, object], str, Path], Survey[C]],
    host_name: Optional[str],
    now: Optional[datetime],
) -> C:
    try:
        data = _read(path)
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), [f"the file {_message(error)}"]) from error
    values, problems = read_document(data)
    if values is None:
        raise ConfigError(str(path), problems)
    _check_role(path, values, "agent" if survey is survey_agent else "api")
    # os.uname rather than the socket module: this package has no sockets.
    surveyed = survey(values, host_name or os.uname().nodename, path.parent.absolute())
    surveyed.report.problems[:0] = problems
    _warn_if_open(surveyed.report, "the configuration", path)
    _look_at_files(surveyed.report, now or datetime.now(timezone.utc))
    return surveyed.result(str(path))


def _check_role(path: Path, values: Mapping[object, object], role: str) -> None:
    """Report a file of the other role as the only problem, because all others follow from it."""
    other = "api" if role == "agent" else "agent"
    found = {one: len(_KEYS[one] & set(values)) for one in _KEYS}
    if found[other] and not found[role]:
        raise ConfigError(str(path), [f"this is the configuration of an {other}: use it with --role {other}"])


def _look_at_files(report: Report, now: datetime) -> None:
    for pair in report.key_pairs:
        _look_at_pair(report, pair, now)
    for ca in report.ca_files:
        with _noting(report, ca.where, ca.file):
            check_cas(_read(ca.file), now)
            _warn_if_open(report, ca.where, ca.file)
    for named in report.directories:
        with _noting(report, named.where, named.directory):
            if not named.directory.is_dir():
                raise ValueError("is not a directory")


def _look_at_pair(report: Report, pair: KeyPair, now: datetime) -> None:
    certificate = key = None
    with _noting(report, f"{pair.where}.certificate", pair.certificate):
        certificate = read_certificate(_read(pair.certificate))
        check_validity(certificate, now)
    with _noting(report, f"{pair.where}.private_key", pair.private_key):
        key = read_private_key(_read(pair.private_key))
        if certificate:
            check_same_key(key, certificate)
        if pair.private_key.stat().st_mode & stat.S_IROTH:
            report.warnings.append(f"{pair.where}.private_key: {pair.private_key} can be read by every user")
    for name, file in (("certificate", pair.certificate), ("private_key", pair.private_key)):
        _warn_if_open(report, f"{pair.where}.{name}", file)


def _warn_if_open(report: Report, where: str, file: Path) -> None:
    """Warn of a file that every user can change, because it defines the daemon's trust or identity."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):
        return  # reported as a problem elsewhere
    if mode & stat.S_IWOTH:
        report.warnings.append(f"{where}: {file} can be changed by every user")


@contextmanager
def _noting(report: Report, where: str, file: Path) -> Iterator[None]:
    """Note a problem of a file, and continue."""
    try:
        yield
    except (OSError, ValueError) as error:
        report.problems.append(f"{where}: {file} {_message(error)}")


def _read(file: Path) -> bytes:
    # Opened without a check of its type, because `--config <(...)` is a pipe.
    with file.open("rb") as stream:
        data = stream.read(CONFIG_MAX + 1)
    if len(data) > CONFIG_MAX:
        raise ValueError(f"is larger than {format_size(CONFIG_MAX)}")
    return data


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, UnicodeError):
        return "cannot be read: the name is not valid"
    return str(error)
