"""What is built once for all tests of packaging: the client file, the sdist and wheel, a stand-in of the cf CLI."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from demo.processes import ROOT, run
from tests.packaging.client_file import PATIENCE, Builder
from tests.packaging.installed import SOURCES, Built, Installed

SOURCE = ROOT / "tests" / "kit" / "lab" / "cfcli" / "main.go"


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Fetch the wheels once."""
    return Builder(tmp_path_factory.mktemp("wheelhouse"))


@pytest.fixture(scope="session")
def client_file(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the file once."""
    return builder.build(tmp_path_factory.mktemp("client") / "pcapctl")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the sources, without what was built in the checkout: it must not find its way into a wheel."""
    copy = tmp_path_factory.mktemp("sources")
    leave = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "dropin.cache", ".*", "blobs")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=leave)
    for path in [*ROOT.glob("*.rst"), *(ROOT / name for name in ("LICENSE", "MANIFEST.in"))]:
        shutil.copy(path, copy)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="session")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build an sdist, and a wheel from the sdist: so the sdist has all that a build needs."""
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--outdir", str(out), str(sources)], timeout=PATIENCE)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return Built(sources, sdist, wheel)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the wheel with its dependencies, and nothing else, into a clean environment."""
    directory = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", str(directory / "venv")], timeout=PATIENCE)
    result = Installed(directory / "venv" / "bin", directory)
    result.run("pip", "install", "--quiet", str(built.wheel), timeout=PATIENCE)
    return result


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the stand-in of the cf CLI."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go on this machine to compile the stand-in of the cf CLI with")
    binary = tmp_path_factory.mktemp("cfcli") / "cf"
    run(
        ["go", "build", "-o", str(binary), str(SOURCE)],
        env={**os.environ, "GO111MODULE": "off"},
        timeout=PATIENCE,
    )
    return binary
