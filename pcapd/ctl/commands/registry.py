"""The list of ``pcapctl`` commands."""

from __future__ import annotations

import importlib
import sys
from typing import Any, List, Optional

import click

from pcapd.ctl.display.terminal import silence

__all__ = ["COMMANDS", "Commands"]

#: One line for each: the name of a module in this package that defines a click command of that name.  A
#: hyphen stands for an underscore in the module's name.
COMMANDS = (
    "align",
    "bosh",
    "captures",
    "cf",
    "cfplugin",
    "completion",
    "explain",
    "extcap",
    "flows",
    "hosts",
    "man",
    "record",
    "recording",
    "recordings",
    "ssh",
    "status",
    "wireshark-profile",
)


class Commands(click.Group):
    """The commands; each is imported when it is used."""

    def list_commands(self, ctx: Any) -> List[str]:
        """Their names, in the order of ``--help``."""
        return sorted(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        """Run one; when its reader, such as ``head``, closes the pipe, it exits with 0."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            silence(sys.stdout.fileno())
            raise SystemExit(0) from None

    def get_command(self, ctx: Any, cmd_name: str) -> Optional[click.Command]:
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"{__package__}.{name}"), name)
        return command
