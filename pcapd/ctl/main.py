"""``pcapctl``: reads the command line and exits with a status."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn, Optional, Sequence

import click

from pcapd.ctl.commands.registry import Commands
from pcapd.ctl.display.terminal import say
from pcapd.ctl.display.text import escape
from pcapd.ctl.extcap.calls import is_call
from pcapd.ctl.options import FAILED, USAGE, UsageProblem
from pcapd.errors import PcapdError

__all__ = ["main"]


#: Commands that report no capture at their end.
_NO_CAPTURES = ("captures", "explain", "flows", "record", "recording", "recordings", "status")


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  pcapctl cf myapp --duration 30s\n"
    "  pcapctl bosh -d cf --group router --duration 30s\n"
    "  pcapctl hosts web-0 --filter 'tcp port 80' -o - | tshark -r -\n"
    "  pcapctl status",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda context, _, wanted: _version(context) if wanted else None,
    help="Show the version, and the SHA-256 of the one-file client, and exit.",
)
def cli() -> None:
    """Capture network traffic from many machines into one file, in time order."""


def _version(context: click.Context) -> NoReturn:
    # Only here, because it reads the whole file.
    from pcapd.ctl.onefile import describe

    click.echo(describe())
    context.exit()


def main(
    command: click.Command = cli,
    arguments: Optional[Sequence[str]] = None,
    name: str = "pcapctl",
    obj: Any = None,
) -> None:
    """Run a command; always raises `SystemExit`.

    Args:
        command: The click command.
        arguments: None for those of this process.
        name: Program name for messages.
        obj: The cf CLI that started us as its plugin.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if command is cli and is_call(given):
            from pcapd.ctl.extcap.command import answer

            sys.exit(answer(given))
        command.main(arguments, name, standalone_mode=False, obj=obj)
    except click.ClickException as error:
        error.show()
        _failed(error.format_message(), USAGE)
    except (click.Abort, KeyboardInterrupt):
        _failed("interrupted", FAILED, text="pcapctl: interrupted")
    except UsageProblem as error:
        _failed(str(error), USAGE, text=f"pcapctl: {escape(str(error))}")
    except PcapdError as error:
        _failed(str(error), FAILED, text=f"pcapctl: {escape(str(error))}")


def _failed(error: str, status: int, text: str = "") -> NoReturn:
    """Report that nothing was captured: as text, and with --json also as an event."""
    if text:
        say(text, sys.stderr)
    arguments = sys.argv[1:]
    if "--json" in arguments and arguments[0] not in _NO_CAPTURES:
        packets_to_stdout = {"-", "-o-", "--output=-", "--file=-"} & set(arguments)
        from pcapd.ctl.sinks.reportfile import nothing

        facts = {"event": "end", **nothing(error, status)}
        say(json.dumps(facts), sys.stderr if packets_to_stdout else sys.stdout)
    sys.exit(status)
