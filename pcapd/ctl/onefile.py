"""The one file that pcapctl runs from, if ``bin/build-client`` made it (PEP 441), and its SHA-256."""

from __future__ import annotations

import hashlib
import zipimport
from pathlib import Path
from typing import Optional

import pcapd

__all__ = ["describe", "own_file"]


def own_file() -> Optional[Path]:
    """The file with pcapctl and its packages; None if pcapctl is installed as a package."""
    spec = pcapd.__spec__
    loader = spec.loader if spec else None
    return Path(loader.archive) if isinstance(loader, zipimport.zipimporter) else None


def describe() -> str:
    """What ``pcapctl --version`` prints: the version, and for the one-file client its hash.

    The hash is of the file as it is now on disk.  It helps to tell files apart, for example in a
    report.  It proves nothing, because a changed file may print any hash: ``ssh-keygen -Y verify``
    checks the file before it runs.
    """
    version = f"pcapctl, version {pcapd.__version__}"
    file = own_file()
    if file is None:
        return version
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        return f"{version}\nSHA-256 unknown: {file}: {error.strerror}"
    return f"{version}\nSHA-256 {digest} {file}"
