"""Carries out the cf CLI's call of a plugin (plugin/plugin_shim.go of cloudfoundry/cli)."""

from __future__ import annotations

import copy
import sys
from typing import Any, List, Sequence

import click

import pcapd
from pcapd.ctl.cfplugin.cli import CfCli
from pcapd.ctl.cfplugin.metadata import ALIAS, COMMAND, METADATA, SECOND, metadata
from pcapd.ctl.commands.cf import cf
from pcapd.ctl.display.text import escape
from pcapd.ctl.main import main
from pcapd.errors import PcapdError

__all__ = ["NAMED", "as_plugin", "start"]

#: Before the port: the plugin has one command, of this name (`pcapd.ctl.commands.cfplugin`).
NAMED = "--cf-plugin="

_METADATA_WANTED = "SendMetadata"
_UNINSTALL = "CLI-MESSAGE-UNINSTALL"


def start(arguments: Sequence[str]) -> None:
    """Carry out a call; always raises `SystemExit`.

    Args:
        arguments: The port and the user's arguments after ``cf``; `NAMED` may precede them.
    """
    name = ""
    if arguments[0].startswith(NAMED):
        name, arguments = arguments[0][len(NAMED) :], arguments[1:]
    cli = CfCli(int(arguments[0]))
    given: List[str] = list(arguments[1:])
    if given == [_METADATA_WANTED]:
        sys.exit(_send_metadata(cli, name))
    if given == [_UNINSTALL]:
        sys.exit(0)  # there is only the file, which the cf CLI removes
    known = (name,) if name else (COMMAND, ALIAS, SECOND)
    if given[0] not in known:
        sys.exit(f"pcapctl: cf {escape(given[0])} is not a command of this plugin, which has: cf {known[0]}")
    main(as_plugin(cf), given[1:], f"cf {given[0]}", cli)


def as_plugin(command: click.Command) -> click.Command:
    """``pcapctl cf`` with the short options of the 2022 plugin: -d, -t, and -i for an instance too."""
    changed = copy.copy(command)
    changed.params = [_with_short(param) for param in command.params]
    assert command.callback is not None
    call = command.callback
    changed.callback = lambda **given: call(**_sorted(given))
    return changed


def _with_short(param: click.Parameter) -> click.Parameter:
    short = {"devices": "-d", "process_type": "-t"}.get(param.name or "")
    if short is None:
        return param
    changed = copy.copy(param)
    changed.opts = [*param.opts, short]
    return changed


def _sorted(given: Any) -> Any:
    """-i names an interface, as in tcpdump; a number is not an interface, but an instance."""
    numbers = tuple(name for name in given["devices"] if name.isascii() and name.replace(",", "").isdigit())
    devices = tuple(name for name in given["devices"] if name not in numbers)
    return {**given, "devices": devices, "instances": (*given["instances"], *numbers)}


def _send_metadata(cli: CfCli, name: str) -> int:
    try:
        value = metadata(as_plugin(cf), pcapd.__version__, name)
        if cli.call("SetPluginMetadata", METADATA, value) is not True:
            print("pcapctl: the cf CLI does not accept this plugin", file=sys.stderr)
            return 1
    except PcapdError as error:
        print(f"pcapctl: {escape(str(error))}", file=sys.stderr)
        return 1
    return 0
