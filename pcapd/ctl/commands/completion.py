"""``pcapctl completion``: the scripts that complete pcapctl's command line in shells.

The scripts are click's (https://click.palletsprojects.com/en/stable/shell-completion/):
they call pcapctl itself, with variables that contain what has been typed.  Completion
never uses the network, and prints nothing but completions.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["SHELLS", "completion", "script"]

SHELLS = ("bash", "zsh", "fish")
_PROGRAM, _VARIABLE = "pcapctl", "_PCAPCTL_COMPLETE"


@click.command(
    epilog="\b\nExamples:\n"
    "  bash  echo 'eval \"$(pcapctl completion bash)\"' >> ~/.bashrc\n"
    "  zsh   echo 'eval \"$(pcapctl completion zsh)\"' >> ~/.zshrc      below compinit\n"
    "  fish  pcapctl completion fish > ~/.config/fish/completions/pcapctl.fish\n\n"
    "Then start a new shell.  Packages put what this prints into\n"
    "share/bash-completion/completions/pcapctl, share/zsh/site-functions/_pcapctl and\n"
    "share/fish/vendor_completions.d/pcapctl.fish.\n"
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script that completes pcapctl's command line in a shell.

    It completes commands, options, files, and values that are stored on this machine, such as
    the directors of ~/.bosh/config, and the hosts of ~/.ssh/config and ~/.ssh/known_hosts; it
    never uses the network.  For zsh and fish, pcapctl must be in PATH; bash must be version 4.4
    or later.
    """
    print(script(shell, click.get_current_context().find_root().command), end="")


def script(shell: str, command: click.Command) -> str:
    """The script with which a shell completes the command line of `command`.

    Args:
        shell: One of `SHELLS`.
    """
    maker = get_completion_class(shell)
    assert maker is not None
    return maker(command, {}, _PROGRAM, _VARIABLE).source().strip() + "\n"
