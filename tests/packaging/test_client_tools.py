"""pipx and uv install pcapctl from the wheel, with the commands of docs/for-app-developers.rst."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

import pcapd
from demo.processes import ROOT, run
from tests.packaging.installed import PATIENCE, Built, clean_environment

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with both programs, which pip installs in an environment of their own."""
    venv = tmp_path_factory.mktemp("tools") / "venv"
    run([sys.executable, "-m", "venv", str(venv)], timeout=PATIENCE)
    run([str(venv / "bin" / "pip"), "install", "--quiet", "pipx", "uv"], timeout=PATIENCE)
    return venv / "bin"


@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_the_documented_command(tool: str, built: Built, tools: Path, tmp_path: Path) -> None:
    """The command puts a pcapctl on the path that runs, and pipx also its man page."""
    page = (ROOT / "docs" / "for-app-developers.rst").read_text()
    (command,) = re.findall(rf"^    ({tool} .*install) \./pcapd-\*-cp312-\*\.whl$", page, re.MULTILINE)
    environment = clean_environment(
        PATH=f"{tools}:{tmp_path}/bin:/usr/bin:/bin",
        PIPX_HOME=f"{tmp_path}/home", PIPX_BIN_DIR=f"{tmp_path}/bin", PIPX_MAN_DIR=f"{tmp_path}/man",
        UV_TOOL_DIR=f"{tmp_path}/home", UV_TOOL_BIN_DIR=f"{tmp_path}/bin", UV_CACHE_DIR=f"{tmp_path}/cache",
        UV_PYTHON_DOWNLOADS="never",
    )  # fmt: skip
    for_this = [*shlex.split(command), "--python", sys.executable, str(built.wheel)]
    run(for_this, cwd=tmp_path, env=environment, timeout=PATIENCE)
    said = run(["pcapctl", "--version"], cwd=tmp_path, env=environment).stdout
    assert said == f"pcapctl, version {pcapd.__version__}\n"
    assert (tmp_path / "man" / "man1" / "pcapctl.1").exists() is (tool == "pipx")
