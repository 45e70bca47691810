"""A Sphinx extension: docs/manual.rst contains the man page itself, as HTML from mandoc.

On GitHub that page only names the file.
"""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the event of a page that was read."""
    app.connect("source-read", append)
    return {"parallel_read_safe": True}


def append(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the man page, with its anchors, to the text of docs/manual.rst."""
    if page != "docs/manual":
        return
    manual = Path(app.srcdir) / "docs" / "pcapctl.1"
    app.env.note_dependency(str(manual))
    argv = ["mandoc", "-T", "html", "-O", "fragment", str(manual)]
    html = subprocess.run(argv, capture_output=True, text=True, check=True).stdout  # noqa: S603
    source[0] += "\n.. raw:: html\n\n" + textwrap.indent(html, "    ")
