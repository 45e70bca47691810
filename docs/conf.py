"""How Sphinx makes the web site from the pages: see bin/docs.

The pages are written for GitHub, with plain relative links.  The root of the repository is the
source directory, so that ``CONTRIBUTING.rst`` and ``CHANGELOG.rst`` are pages too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "site"))

_version = re.search(r'__version__ = "([^"]+)"', (HERE.parent / "pcapd" / "__init__.py").read_text())
assert _version is not None

project = "pcapd"
version = release = _version[1]
language = "en"
# site/links.py and site/manual.py
extensions = ["links", "manual"]
root_doc = "docs/index"
# The index takes the place of the README.
include_patterns = ["docs/*.rst", "*.rst"]
exclude_patterns = ["README.rst"]
nitpicky = True
# "--option" must stay as it is.
smartquotes = False
# Most literal blocks are commands, drawings and messages.
highlight_language = "none"

html_theme = "furo"
html_title = f"pcapd {version}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
