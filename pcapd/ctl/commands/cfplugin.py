"""``pcapctl cfplugin``: writes a cf CLI plugin whose command has another name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

import click

from pcapd.ctl.options import UsageProblem
from pcapd.errors import PcapdError

__all__ = ["cfplugin"]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl cfplugin --name pcapd\n"
    "  cf install-plugin ./cf-pcapd -f\n"
    "  cf pcapd myapp --duration 30s\n\n"
    "The one-file client is itself a plugin, with the commands cf pcap and cf pcapd."
)
@click.option(
    "--name", default="pcapd", metavar="NAME", help="Name of the command and of the plugin.  [default: pcapd]"
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The plugin's file.  [default: cf-NAME]",
)
def cfplugin(name: str, output: Optional[Path]) -> None:
    """Write a cf CLI plugin with one command, for use where another plugin provides cf pcap.

    The plugin starts the pcapctl that wrote it.
    """
    # shutil and tempfile take a while to import: --help does without.
    from pcapd.ctl.cfplugin.command import NAMED
    from pcapd.ctl.extcap.install import launcher, replace, this_command

    if not _NAME.fullmatch(name):
        raise UsageProblem(f"{name!r} cannot be a command of the cf CLI", "use letters, digits and -")
    path = output or Path(f"cf-{name}")
    if os.path.lexists(path):
        raise UsageProblem(f"{path} already exists", "name another file with --output, or remove it")
    mark = "# pcapctl as a plugin of the cf CLI; cf uninstall-plugin removes it."
    try:
        replace(path, launcher([*this_command(), f"{NAMED}{name}"], mark), 0o755)
    except OSError as error:
        raise PcapdError(f"cannot write {path}: {error.strerror}") from error
    print(
        f"wrote {path}; install it with: cf install-plugin {path if path.is_absolute() else f'./{path}'} -f"
    )
