"""From what the cf CLI calls a plugin with to an exit status (plugin/plugin_shim.go of cloudfoundry/cli)."""

from __future__ import annotations

import sys
from typing import List, Sequence

import pcapd
from pcapd.ctl.cfplugin.cli import CfCli
from pcapd.ctl.cfplugin.metadata import ALIAS, COMMAND, METADATA, metadata
from pcapd.ctl.commands.cf import cf
from pcapd.ctl.display.text import escape
from pcapd.ctl.main import main
from pcapd.errors import PcapdError

__all__ = ["start"]

_METADATA_WANTED = "SendMetadata"
_UNINSTALL = "CLI-MESSAGE-UNINSTALL"


def start(arguments: Sequence[str]) -> None:
    """Do what the cf CLI wants; ends by `SystemExit`.

    Args:
        arguments: The port, and what the user typed behind ``cf``.
    """
    cli = CfCli(int(arguments[0]))
    command: List[str] = list(arguments[1:])
    if command == [_METADATA_WANTED]:
        sys.exit(_send_metadata(cli))
    if command == [_UNINSTALL]:
        sys.exit(0)  # there is nothing besides the file, which the cf CLI removes
    if command[0] not in (COMMAND, ALIAS):
        sys.exit(f"pcapctl: cf {escape(command[0])} is not of this plugin, which has: cf {COMMAND}")
    main(cf, command[1:], f"cf {COMMAND}", cli)


def _send_metadata(cli: CfCli) -> int:
    try:
        if cli.call("SetPluginMetadata", METADATA, metadata(cf, pcapd.__version__)) is not True:
            print("pcapctl: the cf CLI does not take this plugin", file=sys.stderr)
            return 1
    except PcapdError as error:
        print(f"pcapctl: {escape(str(error))}", file=sys.stderr)
        return 1
    return 0
