"""Independent readers of the files that we write.

Each raises AssertionError when the tool complains: "readable" means that
tshark, capinfos and tcpdump have nothing to say about a file.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path
from typing import Optional, Sequence, Union

import pytest

TIMEOUT = 120.0

#: What the tools say on stderr about a good file.
HARMLESS = re.compile(
    r"reading from file .*, link-type .*"
    r"|dropped privs to \w+"
    r'|Running as user "root" and group "root"\. This could be dangerous\.'
)

AnyPath = Union[str, Path]


def require(*tools: str) -> None:
    """Skip the test unless these programs are installed."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def tshark_fields(
    path: AnyPath, fields: Sequence[str], display_filter: Optional[str] = None
) -> list[list[str]]:
    """Let tshark dissect a file.

    Args:
        path: The file.
        fields: Names of tshark's fields, such as ``frame.interface_name``.
        display_filter: Only packets that it accepts.

    Returns:
        Per packet one text per field; empty where a packet has no such field,
        joined by commas where it has several.
    """
    argv = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t"]
    for field in fields:
        argv += ["-e", field]
    if display_filter is not None:
        argv += ["-Y", display_filter]
    # Not splitlines: what a packet carries may hold other line breaks.
    return [line.split("\t") for line in _read(argv).split("\n")[:-1]]


def capinfos(path: AnyPath) -> dict[str, str]:
    """Return what capinfos says of a file, by its own column names.

    Numbers are plain (``-M``): ``capinfos(path)["Number of packets"] == "12"``.
    """
    (facts,) = capinfos_of([path])
    return facts


def capinfos_of(paths: Sequence[AnyPath]) -> list[dict[str, str]]:
    """`capinfos` of several files, in their order."""
    argv = ["capinfos", "-A", "-T", "-m", "-Q", "-M", *map(str, paths)]
    header, *rows = csv.reader(_read(argv).splitlines())
    assert len(rows) == len(paths)
    return [dict(zip(header, values)) for values in rows]


def tcpdump_lines(path: AnyPath) -> list[str]:
    """Return tcpdump's lines, one per packet, times in seconds since the epoch and no names looked up."""
    return _read(["tcpdump", "-nn", "-tt", "-r", str(path)]).splitlines()


def _read(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    complaints = [line for line in done.stderr.splitlines() if line and not HARMLESS.fullmatch(line.strip())]
    assert done.returncode == 0 and not complaints, (
        f"{' '.join(argv)}: exit {done.returncode}: {'; '.join(complaints)}"
    )
    return done.stdout
