"""Names of hosts that this machine's ssh knows, for completion at the command line.

The sources are those of ssh itself (ssh_config(5), ``Host`` and ``Include``; sshd(8), "SSH_KNOWN_HOSTS
FILE FORMAT").  No file is needed, every one is read only up to a limit, and nothing asks the network.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
from glob import iglob
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import Dict, Final, Iterator, List, NamedTuple, Tuple

__all__ = ["Configuration", "host_names", "parse_configuration", "parse_known_hosts"]

#: bytes that are read of one file.
_FILE_MAX: Final = 1024 * 1024
#: Files of configuration that are read, and how deep they may include each other, as in ssh.
_FILES_MAX: Final = 64
_DEPTH_MAX: Final = 16
_SYSTEM: Final = Path("/etc/ssh")
#: A keyword and its arguments; there may be an equals sign between them.
_LINE = re.compile(r"\s*(\w+)\s*[\s=]\s*(.*)")
#: What `openssh` and the shells accept without quoting, and no pattern of ssh has.
_NAME = re.compile(r"[\w.][\w.-]*", re.ASCII)
_KNOWN_FILES: Final = ("known_hosts", "known_hosts2")


class Configuration(NamedTuple):
    """What matters of one configuration file.

    Attributes:
        names: Hosts, without patterns.
        includes: Files that it includes, as written.
    """

    names: Tuple[str, ...]
    includes: Tuple[str, ...]


def parse_configuration(text: str) -> Configuration:
    """Read a configuration file of ssh.  Pure.  Lines that ssh would refuse are passed over."""
    names: List[str] = []
    includes: List[str] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        keyword = match[1].lower()
        if keyword == "host":
            names += filter(_NAME.fullmatch, _words(match[2]))
        elif keyword == "include":
            includes += _words(match[2])
    return Configuration(tuple(names), tuple(includes))


def _words(text: str) -> List[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # a quotation mark is missing
        return []


def parse_known_hosts(text: str) -> List[str]:
    """The names in a file of known hosts.  Pure.

    Hashed names and patterns are passed over, and so are lines that only revoke a key or name an
    authority.  An address counts only where there is no name, because most lines have both.
    """
    names: List[str] = []
    for line in text.splitlines():
        fields = line.split(None, 1)
        if len(fields) != 2 or fields[0][0] in "#@|":
            continue
        hosts = [host for host in map(_without_port, fields[0].split(",")) if _NAME.fullmatch(host)]
        names += [host for host in hosts if not _is_address(host)] or hosts
    return names


def _without_port(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def host_names(home: Path, system: Path = _SYSTEM) -> List[str]:
    """The names in the configuration and in the known hosts, each once.

    Args:
        home: The user's home directory.
        system: The directory of the system's files.
    """
    own = home / ".ssh"
    names: List[str] = []
    for path in (own / "config", system / "ssh_config"):
        names += _configured(path, home)
    for path in (*(own / name for name in _KNOWN_FILES), *(system / f"ssh_{name}" for name in _KNOWN_FILES)):
        names += parse_known_hosts(_read(path))
    return list(dict.fromkeys(names))


def _configured(path: Path, home: Path) -> List[str]:
    """The names in a configuration file and in those that it includes."""
    names: List[str] = []
    seen: Dict[Path, None] = {}
    waiting = [(path, 0)]
    while waiting and len(seen) < _FILES_MAX:
        file, depth = waiting.pop(0)
        if file in seen:
            continue
        seen[file] = None
        found = parse_configuration(_read(file))
        names += found.names
        if depth < _DEPTH_MAX:
            waiting += [
                (one, depth + 1) for word in found.includes for one in _files(word, path.parent, home)
            ]
    return names


def _files(pattern: str, directory: Path, home: Path) -> Iterator[Path]:
    """The files of one ``Include``: relative ones are beside the first configuration file."""
    if pattern == "~" or pattern.startswith("~/"):
        pattern = f"{home}{pattern[1:]}"
    # Path.glob() takes no absolute patterns.
    return map(Path, islice(iglob(str(directory / pattern)), _FILES_MAX))  # noqa: PTH207


def _read(path: Path) -> str:
    """The beginning of a regular file up to its last whole line; empty if it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        # A named pipe would block.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                data = file.read(_FILE_MAX + 1)
                if len(data) > _FILE_MAX:
                    data = data[: data.rfind(b"\n", 0, _FILE_MAX) + 1]
                return data.decode(errors="replace")
    return ""
