"""``pcapctl extcap --install``: installs a launcher in Wireshark's extcap directory.

A launcher instead of a copy: it contains the path of this Python, because a Wireshark
that is started from a desktop has a minimal PATH, and it uses a new pcapctl at once.
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
#: Its place on macOS, outside of PATH.
_MACOS_TSHARK = "/Applications/Wireshark.app/Contents/MacOS/tshark"
_TIMEOUT = 20.0  # seconds
_VERSION = re.compile(r"TShark \(Wireshark\) ([0-9]{1,3})\.([0-9]{1,3})")
_MARK_WITHIN = 4096  # bytes

#: Imports nothing from the working directory of Wireshark.
_FROM_DIRECTORY = "import sys; sys.path[0] = sys.argv.pop(1); from pcapd.ctl.__main__ import start; start()"


class InstallProblem(PcapdError):
    """The launcher cannot be installed or removed."""


def install(directory: Optional[Path]) -> Path:
    """Install the launcher in a directory, by default Wireshark's, and try it; returns its path.

    Raises:
        PcapdError: It cannot be installed; the directory is unchanged.
    """
    folder = directory or _folder(os.environ)
    path = folder / NAME
    if os.path.lexists(path) and not _is_ours(path):
        raise InstallProblem(f"{path} exists and is not pcapctl's", "move it away, or use --directory")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace(path, launcher([*this_command(), "extcap"]), 0o755)
        done = subprocess.run(  # noqa: S603  # no shell, and nothing of it is anybody's input
            [str(path), "--extcap-interfaces"], check=False, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise InstallProblem(f"{path} does not answer") from error
    except OSError as error:
        raise InstallProblem(f"cannot install {path}: {error.strerror}", "use another --directory") from error
    if done.returncode:
        raise InstallProblem(f"{path} does not work: {done.stderr.strip()}")
    return path


def uninstall(directory: Optional[Path]) -> List[Path]:
    """Remove our launchers from a directory, or from all of Wireshark's; returns their paths.

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
    """The launcher's text: a shell script that starts a command with its own arguments."""
    return f'#!/bin/sh\n{mark}\nexec {" ".join(map(shlex.quote, command))} "$@"\n'


def folder_of(output: str) -> Optional[Path]:
    """The directory for the user's extcap programs.

    Args:
        output: The output of ``tshark -G folders``.
    """
    folders = _parse_folders(output)
    # Wireshark up to 4.0 prints no line for it.
    configuration = folders.get("personal configuration")
    return folders.get("personal extcap path") or (configuration / "extcap" if configuration else None)


def configuration_of(output: str) -> Optional[Path]:
    """The directory of the user's configuration, with the profiles.

    Args:
        output: The output of ``tshark -G folders``.
    """
    return _parse_folders(output).get("personal configuration")


def _parse_folders(output: str) -> Dict[str, Path]:
    folders = {}
    for line in output.splitlines():
        name, _, folder = line.partition(":")
        if folder.strip():
            folders[name.strip().lower()] = Path(folder.strip())
    return folders


def configuration() -> Path:
    """The directory of the user's configuration for the installed Wireshark.

    Raises:
        UsageProblem: The user has no home directory.
    """
    for tshark in _tsharks():
        directory = configuration_of(_output_of(tshark, "-G", "folders"))
        if directory is not None:
            return directory
    return _home_configuration(os.environ)


def version() -> Optional[Tuple[int, int]]:
    """Major and minor version of the installed Wireshark, or None."""
    for tshark in _tsharks():
        found = _VERSION.match(_output_of(tshark, "--version"))
        if found is not None:
            return int(found[1]), int(found[2])
    return None


def _folder(variables: Mapping[str, str]) -> Path:
    return next(_folders(variables))


def _folders(variables: Mapping[str, str]) -> Iterator[Path]:
    """The directories of the installed Wireshark, or else of any version; the best first."""
    for tshark in _tsharks():
        directory = folder_of(_output_of(tshark, "-G", "folders"))
        if directory is not None:
            yield directory
    yield _home_configuration(variables) / "extcap"
    # Wireshark 4.2 and later also use this one.
    yield Path(variables["HOME"]) / ".local" / "lib" / "wireshark" / "extcap"


def _home_configuration(variables: Mapping[str, str]) -> Path:
    home = variables.get("HOME")
    if not home:
        raise UsageProblem("HOME is not set, so Wireshark's directory is unknown", "name it with --directory")
    return Path(variables.get("XDG_CONFIG_HOME") or f"{home}/.config") / "wireshark"


def _tsharks() -> List[str]:
    return [tshark for tshark in (shutil.which("tshark"), _MACOS_TSHARK) if tshark]


@functools.cache
def _output_of(tshark: str, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and nothing of it is anybody's input
            [tshark, *arguments], check=False, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def this_command() -> List[str]:
    """The command that starts this pcapctl."""
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
    """Write a file atomically: a Wireshark that starts meanwhile has the old file or the new one.

    Raises:
        OSError: The file is unchanged.
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
