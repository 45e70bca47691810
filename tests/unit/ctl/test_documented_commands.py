"""Each command of pcapctl in README and the pages of docs has options and arguments that pcapctl knows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import List

import click
import pytest

from pcapd.ctl.main import cli

ROOT = Path(__file__).resolve().parents[3]
#: In drawings and sentences of these pages, "pcapctl" is no command.
OTHERS = {"architecture", "performance"}
PAGES = [ROOT / "README.rst", *(page for page in (ROOT / "docs").glob("*.rst") if page.stem not in OTHERS)]
#: A command in a literal block, with the lines that continue it.
COMMAND = re.compile(
    r"^ {3,}(?:.* \| |\$ |sudo )?(pcapctl|cf pcapd?) (?=[a-z])((?:.*\\\n)*.*)$", re.MULTILINE
)
#: What ends a command: another one, a redirection, a comment, or words beside it.
END = re.compile(r"(?:^|\s)(?:\||2?>|<|&&?|;|#)(?:\s|$)|\s{3,}|\s…|\.\.\.$|\s&$")


def commands() -> List[str]:
    """As typed, without what follows."""
    found = []
    for page in PAGES:
        for program, rest in COMMAND.findall(page.read_text()):
            text = END.split(rest.replace("\\\n", " "), maxsplit=1)[0]
            found.append(f"{'pcapctl cf' if program != 'pcapctl' else program} {text}".strip())
    return sorted(set(found))


@pytest.mark.parametrize("text", commands())
def test_it_is_understood(text: str) -> None:
    """The parser of the command line accepts each documented command."""
    _, name, *rest = shlex.split(text)
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    command.make_context(name, rest, parent=context)


def test_they_are_found() -> None:
    """The pages are written as the expression above expects."""
    assert len(commands()) > 40
