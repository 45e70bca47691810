"""The plugin's metadata, as the cf CLI defines it (plugin/plugin.go of cloudfoundry/cli)."""

from __future__ import annotations

import re
from typing import Any, Dict, Tuple

import click

from pcapd.ctl.cfplugin.gob import INT, STRING, Map, Slice, Struct

__all__ = ["ALIAS", "COMMAND", "METADATA", "SECOND", "metadata"]

COMMAND = "pcap"
#: The main name of the command.
ALIAS = "tcpdump"
#: A second name, in case the cf CLI gets a command of the first.
SECOND = "pcapd"

_VERSION = Struct("VersionType", (("Major", INT), ("Minor", INT), ("Build", INT)))
_USAGE = Struct("Usage", (("Usage", STRING), ("Options", Map(STRING, STRING, "map[string]string"))))
_COMMAND = Struct(
    "Command", (("Name", STRING), ("Alias", STRING), ("HelpText", STRING), ("UsageDetails", _USAGE))
)
METADATA = Struct(
    "PluginMetadata",
    (
        ("Name", STRING),
        ("Version", _VERSION),
        ("LibraryVersion", _VERSION),
        ("MinCliVersion", _VERSION),
        ("Commands", Slice(_COMMAND, "[]plugin.Command")),
    ),
)

_EXAMPLES = """

EXAMPLES:
   cf {0} myapp --duration 30s
   cf {0} myapp --instance 0,2 --filter "tcp port 8080" --file myapp.pcapng
   cf {0} myapp --device eth0 --device lo
   cf {0} worker --type worker --follow --duration 1h
   cf {0} myapp --file - | wireshark -k -i -"""


def metadata(command: click.Command, version: str, name: str = "") -> Dict[str, Any]:
    """The value of `METADATA`.

    Args:
        command: ``pcapctl cf``, whose options are the plugin's.
        version: As in ``1.2.3``; a suffix after the numbers is dropped.
        name: The name of the only command and of the plugin; without it, `COMMAND` and `SECOND`.
    """
    names = [(name, "")] if name else [(COMMAND, ALIAS), (SECOND, "")]
    help_text = (command.help or "").partition("\n")[0]
    options = dict(_options(command))
    commands = []
    for one, alias in names:
        usage = f"cf {one} APP [OPTIONS]{_EXAMPLES.format(one)}"
        details = {"Usage": usage, "Options": options}
        commands.append({"Name": one, "Alias": alias, "HelpText": help_text, "UsageDetails": details})
    return {"Name": name or COMMAND, "Version": _version(version), "Commands": commands}


def _version(version: str) -> Dict[str, int]:
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    assert numbers is not None
    return dict(zip(("Major", "Minor", "Build"), map(int, numbers.groups())))


def _options(command: click.Command) -> Tuple[Tuple[str, str], ...]:
    """Each option by its longest name without dashes, as cf prints it, and its help with the other names."""
    found = []
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        names = sorted(option.opts, key=len)
        others = [*names[:-1], *option.secondary_opts]
        text = f"{option.help or ''}{f' (also {chr(44).join(others)})' if others else ''}"
        found.append((names[-1].lstrip("-"), re.sub(r"\s+", " ", text).strip()))
    return tuple(found)
