"""pcapctl as one file: built once per session, and Pythons that have nothing installed to run it with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from demo.processes import ROOT, run

REQUIREMENTS = ROOT / "bin" / "client-requirements.txt"
#: Seconds; pip waits for a package index.
PATIENCE = 600.0

#: That pcapctl is made for.
MINORS = range(9, 15)


class Builder:
    """Runs bin/build-client with wheels that were fetched once.

    Args:
        directory: For the wheels.

    Attributes:
        wheels: The directory with the wheels.
    """

    def __init__(self, directory: Path) -> None:
        self.wheels = directory / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--platform", "manylinux2014_x86_64", "--implementation", "cp", "--abi", "cp39"]
        command += ["--python-version", "3.9"]
        run(
            [*command, "--requirement", str(REQUIREMENTS), "--dest", str(self.wheels)],
            timeout=PATIENCE,
        )

    def build(self, out: Path, checkout: Path = ROOT, sign: Optional[Path] = None, **options: Any) -> Path:
        """Build from a checkout; nothing is asked of a package index."""
        environ = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        command = [sys.executable, str(checkout / "bin" / "build-client"), "--out", str(out)]
        command += ["--sign", str(sign)] if sign else []
        options["env"] = {**environ, **options.get("env", {})}
        run(command, timeout=PATIENCE, **options)
        return out


def find_python(minor: int) -> Optional[str]:
    """An interpreter of Python 3.minor that runs; a pyenv has shims for those it does not run."""
    places = [Path.home() / ".pyenv" / "versions", Path("/opt/python")]
    paths = [shutil.which(f"python3.{minor}")]
    paths += [str(path) for place in places for path in place.glob(f"3.{minor}*/bin/python3.{minor}")]
    for path in filter(None, paths):
        ask = [path, "-I", "-c", "import sys; print(sys.version_info[1])"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.stdout.strip() == str(minor):
            return path
    return None


def bare(python: str, file: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the file with an empty environment and without site-packages."""
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, "env": {}, **options}
    return subprocess.run([python, "-I", "-S", str(file), *arguments], check=False, **options)
