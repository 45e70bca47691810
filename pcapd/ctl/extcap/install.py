"""``pcapctl extcap --install``: a launcher where Wireshark looks for capture interfaces.

A launcher, not a copy: it names the Python that works here, for a Wireshark that is
started from a desktop has no PATH to speak of, and a new pcapctl is used at once.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipimport
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Sequence

import pcapd
from pcapd.ctl.options import UsageProblem
from pcapd.errors import PcapdError

__all__ = ["folder_of", "install", "launcher", "uninstall"]

NAME = "pcapctl"
_MARK = "# pcapctl as a capture interface of Wireshark; pcapctl extcap --uninstall removes it."
#: Where macOS has it, outside of PATH.
_MACOS_TSHARK = "/Applications/Wireshark.app/Contents/MacOS/tshark"
_TIMEOUT = 20.0  # seconds
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
        _write(path, launcher(_command()))
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


def launcher(command: Sequence[str]) -> str:
    """The launcher's text: a script for sh that starts a command with what Wireshark gives it."""
    return f'#!/bin/sh\n{_MARK}\nexec {" ".join(map(shlex.quote, command))} "$@"\n'


def folder_of(told: str) -> Optional[Path]:
    """Where a Wireshark looks for its user's capture interfaces.

    Args:
        told: What its ``tshark -G folders`` says.
    """
    folders = {}
    for line in told.splitlines():
        name, _, folder = line.partition(":")
        if folder.strip():
            folders[name.strip().lower()] = Path(folder.strip())
    # Up to 4.0 there is no line of its own for it.
    configuration = folders.get("personal configuration")
    return folders.get("personal extcap path") or (configuration / "extcap" if configuration else None)


def _folder(variables: Mapping[str, str]) -> Path:
    return next(_folders(variables))


def _folders(variables: Mapping[str, str]) -> Iterator[Path]:
    """Where the Wireshark here looks, or else every version; the best first."""
    for tshark in (shutil.which("tshark"), _MACOS_TSHARK):
        told = _told_by(tshark) if tshark else None
        if told is not None:
            yield told
    home = variables.get("HOME")
    if not home:
        raise UsageProblem("there is no HOME where Wireshark could look", "name a directory with --directory")
    configuration = variables.get("XDG_CONFIG_HOME") or f"{home}/.config"
    yield Path(configuration) / "wireshark" / "extcap"
    # Wireshark 4.2 and later look here, too.
    yield Path(home) / ".local" / "lib" / "wireshark" / "extcap"


def _told_by(tshark: str) -> Optional[Path]:
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and nothing of it is anybody's input
            [tshark, "-G", "folders"], check=False, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return folder_of(done.stdout)


def _command() -> List[str]:
    """What starts this very pcapctl."""
    python = [sys.executable] if sys.executable else ["/usr/bin/env", "python3"]
    loader = pcapd.__spec__.loader if pcapd.__spec__ else None
    if isinstance(loader, zipimport.zipimporter):
        return [*python, str(Path(loader.archive).resolve()), "extcap"]
    root = Path(pcapd.__file__).resolve().parents[1]
    return [*python, "-c", _FROM_DIRECTORY, str(root), "extcap"]


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(_MARK_WITHIN)
    except OSError:
        return False


def _write(path: Path, content: str) -> None:
    """In one step: a Wireshark that starts meanwhile has the old one or the new one."""
    fd, temporary = tempfile.mkstemp(prefix=".pcapctl-", dir=path.parent)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(content)
            os.fchmod(fd, 0o755)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
