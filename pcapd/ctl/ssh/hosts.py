"""The hosts of a capture over ssh, and the words that run a command on them.  Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final, Tuple

from pcapd.ctl.options import UsageProblem

__all__ = ["AT_ONCE", "HOSTS_MAX", "Host", "SshOptions", "openssh", "parse_command"]

#: Hosts of one capture: each has a child process.
HOSTS_MAX: Final = 100
#: Connections that are made at the same time.  sshd, for example that of a jump host, drops some
#: above ten (MaxStartups); and Cloud Controller limits the rate of requests, which cf ssh sends.
AT_ONCE: Final = 8


@dataclass(frozen=True)
class Host:
    """A machine on which a command line can be run.

    A command is run there by the program, its words, `place` and the command as the last word.

    Attributes:
        name: Its name in the capture.
        program: The program with its words, for use without questions.
        place: The words that name the machine.
        asking: The program with its words, if it may ask the user, for example for a password;
            empty if it never asks.
        shares: Whether the program is OpenSSH's, so that several commands can share a connection.
        tool: Path of the program that captures there; empty to look for one.
        device: The interface that is captured if none is named; empty for the one of the default route.
        ports: Ports of the ssh server, which are excluded; if there are none, the machine tells its port.
        try_with: A command with which the user can check the connection; empty for ``ssh NAME true``.
        remedies: Remedies for messages of ssh, by a part of the message; for others see
            `pcapd.ctl.ssh.said.problem_of`.
    """

    name: str
    program: Tuple[str, ...]
    place: Tuple[str, ...]
    asking: Tuple[str, ...] = ()
    shares: bool = False
    tool: str = ""
    device: str = ""
    ports: Tuple[int, ...] = ()
    try_with: str = ""
    remedies: Tuple[Tuple[str, str], ...] = ()

    @property
    def check(self) -> str:
        """A command with which the user can check the connection."""
        return self.try_with or f"ssh {self.name} true"

    def words(self, *more: str, ask: bool = False) -> Tuple[str, ...]:
        """The words that run a command, without the command.

        Args:
            more: Further words for the program.
            ask: Whether it may ask the user.
        """
        return (*(self.asking if ask else self.program), *more, *self.place)


@dataclass(frozen=True)
class SshOptions:
    """The options of ``pcapctl ssh`` for ssh itself.

    Attributes:
        command: The ssh program, with its own words.
        options: Words for ssh, before the host.
    """

    command: Tuple[str, ...] = ("ssh",)
    options: Tuple[str, ...] = ()


def openssh(name: str, options: SshOptions) -> Host:
    """A host that the system's ssh reaches.

    The user's configuration applies, except what would prevent a command without a terminal:
    forwardings, and a remote command of its own.

    Args:
        name: HOST or USER@HOST, as ssh accepts it.

    Raises:
        UsageProblem: The name begins with a hyphen, or has a space or a control character.
    """
    if not name or name.startswith("-") or not name.isprintable() or " " in name:
        raise UsageProblem(f"{name!r} is not the name of a host", "for example: pcapctl ssh alice@web-1")
    asking = (*options.command, "-T", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none")
    place = (*options.options, name)
    return Host(name, (*asking, "-o", "BatchMode=yes"), place, asking, shares=True)


def parse_command(text: str) -> Tuple[str, ...]:
    """The words of ``--ssh COMMAND``.

    Raises:
        UsageProblem: A quotation mark is missing, or there is no word.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageProblem(f"--ssh {text!r}: {error}") from error
    if not words:
        raise UsageProblem("--ssh needs a command")
    return words
