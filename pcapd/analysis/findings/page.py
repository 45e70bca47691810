"""Makes docs/findings.rst from the texts of the kinds."""

from __future__ import annotations

from typing import Iterator

from pcapd.analysis.findings.kinds import KINDS

__all__ = ["page"]

_HEAD = """Findings of ``pcapctl explain``
===============================

For everybody who reads an explanation: what each finding means, and what to do.

.. Made by bin/build-findings from pcapd/analysis/findings; do not edit.

Each finding has a severity: an *error* is a failure,
a *warning* is something that costs time or may fail,
and a *note* is information.
Healthy traffic has no findings above a note.
"""


def page() -> str:
    """The page as reStructuredText."""
    return "\n".join([_HEAD, *_kinds()])


def _kinds() -> Iterator[str]:
    for kind in KINDS:
        yield f"{kind.name}\n{'-' * len(kind.name)}\n"
        yield f"{kind.__doc__}\n"
        yield f":On the wire: {kind.looks}"
        yield f":What it means: {kind.means}"
        yield f":What to do: {kind.remedy}"
        if kind.platform:
            yield f":Cloud Foundry: {kind.platform}"
        if kind.display:
            yield f":Display filter: ``{kind.display}``"
        yield ""
