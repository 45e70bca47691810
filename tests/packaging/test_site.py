"""bin/docs: the pages become a web site without a warning, in which every link leads somewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docutils.core import publish_string
from docutils.writers.html5_polyglot import Writer

from demo.processes import ROOT, run
from tests.kit.lab.readers import require

#: Seconds.
PATIENCE = 120


def test_the_site(tmp_path: Path) -> None:
    """The site has all pages with links between them, the files that they link to, and the man page."""
    run([str(ROOT / "bin" / "docs"), str(tmp_path)], timeout=PATIENCE)
    pages = {path.stem for path in ROOT.glob("docs/*.rst")}
    assert {path.stem for path in (tmp_path / "docs").glob("*.html")} == pages
    index = (tmp_path / "docs" / "index.html").read_text()
    for link in ("use.html#limits-of-today", "../CONTRIBUTING.html", "install.html"):
        assert f'href="{link}"' in index
    assert (tmp_path / "etc" / "pcapd-api.yml").read_text() == (ROOT / "etc" / "pcapd-api.yml").read_text()
    assert 'id="SYNOPSIS"' in (tmp_path / "docs" / "manual.html").read_text()
    assert "docs/index.html" in (tmp_path / "index.html").read_text()


def test_every_page_says_for_whom() -> None:
    """The first paragraph of each page says who should read it."""
    for path in ROOT.glob("docs/*.rst"):
        _, _, _, *rest = path.read_text().splitlines()
        paragraph = next(line for line in rest if line and not line.startswith(".. "))
        assert paragraph.startswith("For "), path.name


def test_the_readme_renders() -> None:
    """The README is correct without Sphinx, as GitHub and package indexes show it."""
    settings = {"report_level": 2, "halt_level": 2, "raw_enabled": False, "file_insertion_enabled": False}
    html = publish_string((ROOT / "README.rst").read_text(), writer=Writer(), settings_overrides=settings)
    assert b"docs/pictures/table.svg" in html


DEFECTS = """Defects
=======

For a test: `no file <nowhere.rst>`_, `no anchor <index.rst#nowhere>`_, `no host <https:///x>`_, `no target`_.
"""


@pytest.mark.long
def test_defects_fail(tmp_path: Path) -> None:
    """A link to no file, to no anchor, to no host and to no target each fail the build, and are named."""
    require("mandoc")
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "docs", sources / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("CHANGELOG.rst", "CONTRIBUTING.rst", "LICENSE", "etc", "pcapd/__init__.py"):
        (sources / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name)
    (sources / "docs" / "quickstart.rst").write_text(DEFECTS)
    lines = (ROOT / "bin" / "docs").read_text().replace("\\\n", " ").splitlines()
    (command,) = [line for line in lines if "-m sphinx" in line]
    done = subprocess.run(
        [
            "bash",
            "-c",
            command.replace('"$venv/bin/python"', sys.executable).replace("$site", str(tmp_path / "site")),
        ],
        cwd=sources,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    for words in ("nowhere.rst leads to no file", "index.html#nowhere: there is no such anchor"):
        assert words in done.stderr
    assert "https:///x: not a URL" in done.stderr and '"no target"' in done.stderr
