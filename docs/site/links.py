"""A Sphinx extension: the pages' plain relative links work in the site, and every link is checked.

``operations.rst#alerts`` becomes ``operations.html#alerts``.  A file that is no page, such as
``../etc/pcapd-api.yml``, is copied to the same place in the site.  After the build, each link of each
HTML page must lead to a file, and to an anchor in it; links to other sites are only parsed.
"""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Iterator, Optional
from urllib.parse import unquote, urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

#: The site has another form of this file (see `manual`), to which all other pages lead.
MANUAL, MANUAL_PAGE = Path("docs/pcapctl.1"), "docs/manual"
#: The site begins in a subdirectory, like the pages.
REDIRECT = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html"><title>pcapd</title>\n'

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the events of a build."""
    app.connect("doctree-resolved", rewrite)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True}


def rewrite(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Make the relative links of a page those of the site; warns of one that leads nowhere."""
    for node in tree.findall(nodes.reference):
        uri = node.get("refuri", "")
        if not node.get("internal") and uri and not urlsplit(uri).scheme and not uri.startswith("#"):
            _rewrite(app, node, page)


def _rewrite(app: Sphinx, node: nodes.reference, page: str) -> None:
    path, hash_, anchor = node["refuri"].partition("#")
    root = Path(app.srcdir)
    file = (root / page).parent.joinpath(path).resolve()
    if not file.is_file() or not file.is_relative_to(root):
        logger.warning("the link %s leads to no file", node["refuri"], location=node)
        return
    inside = file.relative_to(root)
    target = MANUAL_PAGE if inside == MANUAL else str(inside.with_suffix(""))
    if target in app.env.found_docs and target != page:
        node["refuri"] = app.builder.get_relative_uri(page, target) + hash_ + anchor
        return
    copy = Path(app.outdir) / inside
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)


def finish(app: Sphinx, error: Optional[Exception]) -> None:
    """Write the redirection to the first page, and check all links; a broken one fails the build."""
    if error is not None:
        return
    out = Path(app.outdir)
    (out / "index.html").write_text(REDIRECT)
    pages = {path: Page(path) for path in sorted(out.rglob("*.html")) if "_static" not in path.parts}
    problems = [
        f"{path.relative_to(out)}: {link}: {why}"
        for path, page in pages.items()
        for link in sorted(set(page.links))
        if (why := broken(path, link, pages))
    ]
    for problem in problems:
        logger.error("%s", problem)
        app.statuscode = 1


def broken(path: Path, link: str, pages: dict[Path, Page]) -> Optional[str]:
    """Return what is wrong with a link of the page at `path`, or None."""
    try:
        parts = urlsplit(link)
    except ValueError as error:
        return str(error)
    if parts.scheme or parts.netloc:
        good = parts.scheme == "mailto" or (parts.scheme in ("http", "https") and parts.hostname)
        return None if good and " " not in link else "not a URL"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return "there is no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "there is no such anchor"
    return None


class Page(HTMLParser):
    """What an HTML file links to, and the anchors in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        """Note what a tag links to and defines."""
        self.links += _values(attrs, "href", "src")
        self.anchors.update(_values(attrs, "id"))


def _values(attributes: list[tuple[str, Optional[str]]], *names: str) -> Iterator[str]:
    return (value for name, value in attributes if name in names and value)
