"""``pcapctl extcap --install``: a launcher where Wireshark looks for capture interfaces.

A launcher, not a copy: it names the Python that works here, for a Wireshark that is
started from a desktop has no PATH to speak of, and a new pcapctl is used at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipimport
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import pcapd
from pcapd.ctl.options import UsageProblem
from pcapd.errors import PcapdError

__all__ = [
    "InstallProblem",
    "configuration",
    "configuration_of",
    "folder_of",
    "install",
    "launcher",
    "replace",
    "this_command",
    "uninstall",
    "version",
]

NAME = "pcapctl"
_MARK = "# pcapctl as a capture interface of Wireshark; pcapctl extcap --uninstall removes it."
#: Where macOS has it, outside of PATH.
_MACOS_TSHARK = "/Applications/Wireshark.app/Contents/MacOS/tshark"
_TIMEOUT = 20.0  # seconds
_VERSION = re.compile(r"TShark \(Wireshark\) ([0-9]{1,3})\.([0-9]{1,3})")
_MARK_WITHIN = 4096  # bytes

#: Imports nothing from the directory that Wireshark happens to be in.
_FROM_DIRECTORY = "import sys; sys.path[0] = sys.argv.pop(1); from pcapd.ctl.__main__ import start; start()"


class InstallProblem(PcapdError):
    """The launcher cannot be put there, or removed."""


def install(directory: Optional[Path]) -> Path:
    """Put the launcher into a directory, or where Wireshark looks, and try it; returns its path.

    Raises:
        PcapdError: It cannot be, and what was there before still is.
    """
    folder = directory or _folder(os.environ)
    path = folder / NAME
    if os.path.lexists(path) and not _is_ours(path):
        raise InstallProblem(f"{path} is something else", "move it away, or choose with --directory")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace(path, launcher([*this_command(), "extcap"]), 0o755)
        done = subprocess.run(  # noqa: S603  # no shell, and nothing of it is anybody's input
            [str(path), "--extcap-interfaces"], check=False, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise InstallProblem(f"{path} does not answer") from error
    except OSError as error:
        raise InstallProblem(f"cannot install {path}: {error.strerror}", "choose with --directory") from error
    if done.returncode:
        raise InstallProblem(f"{path} does not work: {done.stderr.strip()}")
    return path


def uninstall(directory: Optional[Path]) -> List[Path]:
    """Remove our launchers from a directory, or from wherever Wireshark may look; returns their paths.

    Raises:
        PcapdError: One of them cannot be removed.
    """
    removed = []
    for folder in [directory] if directory else list(dict.fromkeys(_folders(os.environ))):
        path = folder / NAME
        if _is_ours(path):
            try:
                path.unlink()
            except OSError as error:
                raise InstallProblem(f"cannot remove {path}: {error.strerror}") from error
            removed.append(path)
    return removed


def launcher(command: Sequence[str], mark: str = _MARK) -> str:
    """The launcher's text: a script for sh that starts a command with the arguments that it is given."""
    return f'#!/bin/sh\n{mark}\nexec {" ".join(map(shlex.quote, command))} "$@"\n'


def folder_of(told: str) -> Optional[Path]:
    """Where a Wireshark looks for its user's capture interfaces.

    Args:
        told: What its ``tshark -G folders`` says.
    """
    folders = _told_folders(told)
    # Up to 4.0 there is no line of its own for it.
    configuration = folders.get("personal configuration")
    return folders.get("personal extcap path") or (configuration / "extcap" if configuration else None)


def configuration_of(told: str) -> Optional[Path]:
    """Where a Wireshark keeps its user's configuration, with the profiles.

    Args:
        told: What its ``tshark -G folders`` prints.
    """
    return _told_folders(told).get("personal configuration")


def _told_folders(told: str) -> Dict[str, Path]:
    folders = {}
    for line in told.splitlines():
        name, _, folder = line.partition(":")
        if folder.strip():
            folders[name.strip().lower()] = Path(folder.strip())
    return folders


def configuration() -> Path:
    """Where the Wireshark here keeps its user's configuration.

    Raises:
        UsageProblem: There is no home directory.
    """
    for tshark in _tsharks():
        told = configuration_of(_told_by(tshark, "-G", "folders"))
        if told is not None:
            return told
    return _home_configuration(os.environ)


def version() -> Optional[Tuple[int, int]]:
    """Major and minor version of the Wireshark here; None without one."""
    for tshark in _tsharks():
        found = _VERSION.match(_told_by(tshark, "--version"))
        if found is not None:
            return int(found[1]), int(found[2])
    return None


def _folder(variables: Mapping[str, str]) -> Path:
    return next(_folders(variables))


def _folders(variables: Mapping[str, str]) -> Iterator[Path]:
    """Where the Wireshark here looks, or else every version; the best first."""
    for tshark in _tsharks():
        told = folder_of(_told_by(tshark, "-G", "folders"))
        if told is not None:
            yield told
    yield _home_configuration(variables) / "extcap"
    # Wireshark 4.2 and later look here, too.
    yield Path(variables["HOME"]) / ".local" / "lib" / "wireshark" / "extcap"


def _home_configuration(variables: Mapping[str, str]) -> Path:
    home = variables.get("HOME")
    if not home:
        raise UsageProblem("there is no HOME where Wireshark could look", "name a directory with --directory")
    return Path(variables.get("XDG_CONFIG_HOME") or f"{home}/.config") / "wireshark"


def _tsharks() -> List[str]:
    return [tshark for tshark in (shutil.which("tshark"), _MACOS_TSHARK) if tshark]


@functools.cache
def _told_by(tshark: str, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and nothing of it is anybody's input
            [tshark, *arguments], check=False, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def this_command() -> List[str]:
    """What starts this very pcapctl."""
    python = [sys.executable] if sys.executable else ["/usr/bin/env", "python3"]
    loader = pcapd.__spec__.loader if pcapd.__spec__ else None
    if isinstance(loader, zipimport.zipimporter):
        return [*python, str(Path(loader.archive).resolve())]
    root = Path(pcapd.__file__).resolve().parents[1]
    return [*python, "-c", _FROM_DIRECTORY, str(root)]


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(_MARK_WITHIN)
    except OSError:
        return False


def replace(path: Path, content: str, mode: int) -> None:
    """Write a file in one step: a Wireshark that starts meanwhile has the old one or the new one.

    Raises:
        OSError: It is as it was.
    """
    fd, temporary = tempfile.mkstemp(prefix=".pcapctl-", dir=path.parent)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(content)
            os.fchmod(fd, mode)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
