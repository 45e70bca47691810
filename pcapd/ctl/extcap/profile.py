"""A Wireshark profile for files with several places: ``pcapctl wireshark-profile --install``.

A packet that two instances exchange is in the file twice, once for each of them.  With its
default profile Wireshark takes the second sighting for a retransmission.  This profile has
columns for the interface and for lost packets, keeps the conversations of each interface
apart (Wireshark 4.2 and later), and does not colour such packets as errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple

from pcapd.ctl.extcap.install import InstallProblem, replace

__all__ = ["NAME", "files", "install", "uninstall"]

#: The name of the profile.
NAME = "pcapd"
_MARK = "# Made by pcapctl; pcapctl wireshark-profile --uninstall removes it.  Without this line it is yours."

_COLUMNS = (
    ("No.", "%m"),
    ("Time", "%t"),
    ("Interface", "%Cus:frame.interface_name:0:R"),
    ("Source", "%s"),
    ("Destination", "%d"),
    ("Protocol", "%p"),
    ("Length", "%L"),
    ("Lost before", "%Cus:frame.drop_count:0:R"),
    ("Info", "%i"),
)

_PREFERENCES = f"""{_MARK}
gui.column.format: {", ".join(f'"{title}", "{kind}"' for title, kind in _COLUMNS)}
"""
#: By MAC address and interface (epan/prefs.c); older versions report it as an error.
_APART = "protocols.conversation_deinterlacing_key: .MI\n"
_APART_SINCE = (4, 2)

#: Wireshark's own colours for protocols, without those of its TCP analysis; the first match counts.
_COLOURS = f"""{_MARK}
@Packets were lost before this one@frame.drop_count > 0@[65535,62194,45232][4626,10023,11822]
@ICMP@icmp || icmpv6@[64764,57568,65535][4626,10023,11822]
@HTTP@http || tcp.port == 80 || http2@[58596,65535,51143][4626,10023,11822]
@TCP SYN/FIN@tcp.flags & 0x02 || tcp.flags.fin == 1@[41120,41120,41120][4626,10023,11822]
@TCP@tcp@[59367,59110,65535][4626,10023,11822]
@UDP@udp@[56026,61166,65535][4626,10023,11822]
"""


def files(version: Optional[Tuple[int, int]]) -> Dict[str, str]:
    """The profile's files by name, for a version of Wireshark; None stands for the newest."""
    apart = _APART if version is None or version >= _APART_SINCE else ""
    return {"preferences": _PREFERENCES + apart, "colorfilters": _COLOURS}


def install(configuration: Path, version: Optional[Tuple[int, int]]) -> Path:
    """Write the profile, except for files that the user has changed; returns its directory.

    Args:
        configuration: Directory of the user's configuration for Wireshark.
        version: The version of Wireshark.

    Raises:
        InstallProblem: It cannot be written.
    """
    folder = configuration / "profiles" / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files(version).items():
            path = folder / name
            if not path.exists() or _is_ours(path):
                replace(path, content, 0o644)
    except OSError as error:
        raise InstallProblem(f"cannot write {folder}: {error.strerror}") from error
    return folder


def uninstall(configuration: Path) -> List[Path]:
    """Remove our files, and the directory if it is then empty; returns their paths.

    Raises:
        InstallProblem: One of them cannot be removed.
    """
    folder = configuration / "profiles" / NAME
    removed = [folder / name for name in files(None) if _is_ours(folder / name)]
    try:
        for path in removed:
            path.unlink()
        if removed and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise InstallProblem(f"cannot remove {folder}: {error.strerror}") from error
    return removed


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MARK.encode())) == _MARK.encode()
    except OSError:
        return False
