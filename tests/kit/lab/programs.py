"""Programs from Go's and Node.js' registries that some tests need: ``python3 tests/kit/lab/programs.py DIRECTORY``.

This installs all of them, as ``.ci/run`` does before the tests, because compiling takes minutes.  A test finds a
program by its variable, in PATH, or installs it itself; it is skipped where this cannot be done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_TIMEOUT = 900  # seconds; bosh and versitygw are large


class Program(NamedTuple):
    """A program that may not be here.

    Attributes:
        name: In PATH.
        package: A Go module, or a package of Node.js, with its version.
        variable: The variable that may name its path.
    """

    name: str
    package: str
    variable: str


#: An S3 server with a directory behind it: https://github.com/versity/versitygw
VERSITYGW = Program("versitygw", "github.com/versity/versitygw/cmd/versitygw@v1.8.0", "PCAPD_TEST_VERSITYGW")
BOSH = Program("bosh", "github.com/cloudfoundry/bosh-cli/v7@latest", "PCAPD_TEST_BOSH")
#: Microsoft's double of Azure Blob Storage: https://github.com/Azure/Azurite
AZURITE = Program("azurite-blob", "azurite@3.35.0", "PCAPD_TEST_AZURITE")


def find(program: Program, directory: Path) -> str:
    """The path of a program; the test is skipped if there is none.

    Args:
        directory: Where it is installed, if it is not here.
    """
    given = os.environ.get(program.variable) or shutil.which(program.name)
    if given:
        return given
    import pytest  # not needed, and perhaps not there, when .ci/run installs the programs

    tool = "go" if "/" in program.package else "npm"
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {program.name} on this machine, and no {tool} to install it")
    try:
        return str(install(program, directory))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{tool} cannot install {program.name}: {_said(error)}")


def install(program: Program, directory: Path) -> Path:
    """Install a program, and return its path in this directory.

    Raises:
        CalledProcessError: It cannot be installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / program.name
    if "/" in program.package:
        with tempfile.TemporaryDirectory(dir=directory) as made:
            _run(["go", "install", program.package], GOBIN=made)
            (binary,) = Path(made).iterdir()  # the name of a module may differ
            binary.replace(path)
    else:
        prefix = directory / f"{program.name}.packages"
        _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(prefix), program.package])
        path.unlink(missing_ok=True)
        path.symlink_to(prefix / "node_modules/.bin" / program.name)
    return path


def _run(argv: list[str], **variables: str) -> None:
    subprocess.run(
        argv, env={**os.environ, **variables}, capture_output=True, text=True, timeout=_TIMEOUT, check=True
    )


def _said(error: subprocess.CalledProcessError) -> str:
    """The last line that a tool said."""
    return (error.stderr.strip().splitlines() or ["nothing"])[-1].strip()


def main() -> None:
    """Install what is not in PATH; what cannot be installed is reported, and its tests are skipped."""
    for program in (VERSITYGW, BOSH, AZURITE):
        if shutil.which(program.name) is None:
            try:
                install(program, Path(sys.argv[1]))
            except subprocess.CalledProcessError as error:
                print(f"{program.name} cannot be installed: {_said(error)}", file=sys.stderr)
            except (OSError, subprocess.TimeoutExpired) as error:
                print(f"{program.name} cannot be installed: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
