"""The pictures in README.rst: they exist, are small, and the one that needs no Chromium is up to date."""

from __future__ import annotations

import re
import struct

from tests.pictures import PAGE, ROOT, SIZE_MAX, TABLE, table, words


def test_readme_shows_them() -> None:
    """Each picture that README.rst names exists, and each that exists is named."""
    named = re.findall(r"^\.\. image:: (\S+)$", (ROOT / "README.rst").read_text(), re.MULTILINE)
    assert sorted(ROOT / name for name in named) == sorted((ROOT / "docs" / "pictures").iterdir())


def test_the_table_is_that_of_pcapctl() -> None:
    """table.svg has the texts that the code of the live table makes now, and loads nothing."""
    assert words(TABLE.read_text()) == words(table()), "run: bin/pictures --table"
    assert any("findings" in text for text in words(TABLE.read_text()))
    assert "url(http" not in TABLE.read_text() and "<script" not in TABLE.read_text()


def test_the_page_is_a_small_picture() -> None:
    """explain.png is a PNG of a useful width, below the limit of size."""
    data = PAGE.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) <= SIZE_MAX
    width, height = struct.unpack_from(">II", data, 16)
    assert width >= 800 and height >= 800
