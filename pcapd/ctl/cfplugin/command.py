"""From what the cf CLI calls a plugin with to an exit status (plugin/plugin_shim.go of cloudfoundry/cli)."""

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
    """Do what the cf CLI wants; ends by `SystemExit`.

    Args:
        arguments: The port, and what the user typed behind ``cf``; perhaps `NAMED` before them.
    """
    name = ""
    if arguments[0].startswith(NAMED):
        name, arguments = arguments[0][len(NAMED) :], arguments[1:]
    cli = CfCli(int(arguments[0]))
    words: List[str] = list(arguments[1:])
    if words == [_METADATA_WANTED]:
        sys.exit(_send_metadata(cli, name))
    if words == [_UNINSTALL]:
        sys.exit(0)  # there is nothing besides the file, which the cf CLI removes
    known = (name,) if name else (COMMAND, ALIAS, SECOND)
    if words[0] not in known:
        sys.exit(f"pcapctl: cf {escape(words[0])} is not of this plugin, which has: cf {known[0]}")
    main(as_plugin(cf), words[1:], f"cf {words[0]}", cli)


def as_plugin(command: click.Command) -> click.Command:
    """``pcapctl cf`` with the short options of the plugin of 2022: -d, -t, and -i for an instance, too."""
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
    """-i names an interface as tcpdump's does; a number is no interface's name, but an instance."""
    numbers = tuple(word for word in given["devices"] if word.isascii() and word.replace(",", "").isdigit())
    devices = tuple(word for word in given["devices"] if word not in numbers)
    return {**given, "devices": devices, "instances": (*given["instances"], *numbers)}


def _send_metadata(cli: CfCli, name: str) -> int:
    try:
        told = metadata(as_plugin(cf), pcapd.__version__, name)
        if cli.call("SetPluginMetadata", METADATA, told) is not True:
            print("pcapctl: the cf CLI does not take this plugin", file=sys.stderr)
            return 1
    except PcapdError as error:
        print(f"pcapctl: {escape(str(error))}", file=sys.stderr)
        return 1
    return 0
