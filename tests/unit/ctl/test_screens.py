"""The screens in the documents are those that pcapctl shows."""

from __future__ import annotations

import pytest

from tests.screens import DOCUMENT, few, many, updated


def test_they_are_up_to_date() -> None:
    """The documented screens equal what ``python -m tests.screens`` makes."""
    assert updated(DOCUMENT.read_text()) == DOCUMENT.read_text(), "run: python -m tests.screens"


def test_old_ones_are_replaced() -> None:
    """A line that was changed by hand, or by an older version, does not stay."""
    document = DOCUMENT.read_text()
    changed = document.replace("Ctrl-C stops and finishes", "Ctrl-C ends and finishes")
    assert changed != document
    assert updated(changed) == document


def test_a_missing_place_is_an_error() -> None:
    """A screen without its place in the document is an error."""
    with pytest.raises(LookupError, match="screen many has 0 places"):
        updated(DOCUMENT.read_text().replace(".. screen many,", ".. "))


def test_they_fit() -> None:
    """The documented tables fit 80 columns."""
    assert max(len(line) for scene in (few(), many()) for line in scene.table()) < 80
