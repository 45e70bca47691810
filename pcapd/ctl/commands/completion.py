"""Completion of pcapctl's command line in shells: the scripts, and the values that are known here.

The scripts are click's (https://click.palletsprojects.com/en/stable/shell-completion/):
they call pcapctl itself, with variables that say what has been typed.  Only this
machine is asked, never the network, and nothing is printed but completions.
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable, List

import click
from click.shell_completion import CompletionItem, get_completion_class

from pcapd.errors import PcapdError

__all__ = ["SHELLS", "environments", "files", "one_of", "script"]

SHELLS = ("bash", "zsh", "fish")

Items = List["CompletionItem[str]"]  # generic only in newer click
Complete = Callable[[Any, Any, str], Items]

_PROGRAM, _VARIABLE = "pcapctl", "_PCAPCTL_COMPLETE"
#: The scripts take a word apart at anything else.
_WHOLE_WORD = re.compile(r"[\w.@+-]+")


def script(shell: str, command: click.Command) -> str:
    """What a shell must read to complete the command line of `command`.

    Args:
        shell: One of `SHELLS`.
    """
    maker = get_completion_class(shell)
    assert maker is not None
    return maker(command, {}, _PROGRAM, _VARIABLE).source().strip() + "\n"


def files(context: Any, parameter: Any, incomplete: str) -> Items:
    """Paths, which the shell completes itself."""
    return [CompletionItem(incomplete, type="file")]


def one_of(*values: str) -> Complete:
    """Values that are usual; others are as good."""

    def complete(context: Any, parameter: Any, incomplete: str) -> Items:
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return complete


def environments(context: Any, parameter: Any, incomplete: str) -> Items:
    """The aliases of directors in the BOSH CLI's configuration; none where it cannot be read."""
    # YAML takes time, which other completions do without.
    from pcapd.ctl.login.boshconfig import config_path
    from pcapd.ctl.login.boshlogin import read_aliases

    try:
        known = read_aliases(config_path(os.environ))
    except PcapdError:
        return []
    names = [name for name in known if name.startswith(incomplete) and _WHOLE_WORD.fullmatch(name)]
    return [CompletionItem(name) for name in names]
