"""``pcapctl man``: the man page, pcapctl(1), made from the ``--help`` texts and the texts below.

The output is man(7) that groff and mandoc understand, in ASCII.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

import click

import pcapd
from pcapd.ctl.commands.arguments import CTRL_C, EXIT_STATUS, STATUSES

__all__ = ["ENVIRONMENT", "man", "page"]

#: The environment variables that pcapctl reads.
ENVIRONMENT = (
    ("PCAP_API", "URL of the pcap api; --api takes precedence."),
    ("PCAP_REASON", "Why you capture, for the api's audit record; --reason takes precedence."),
    ("PCAP_TOKEN", "Your token for pcapctl hosts and status --agents; --token-file takes precedence."),
    ("CF_HOME", "Directory that contains the cf CLI's .cf, instead of HOME."),
    ("BOSH_CONFIG", "Configuration file of the BOSH CLI, instead of ~/.bosh/config."),
    ("BOSH_ENVIRONMENT", "The director, by alias or URL; --environment takes precedence."),
    ("BOSH_DEPLOYMENT", "The deployment; --deployment takes precedence."),
    ("BOSH_CA_CERT", "CA certificate of the director and its UAA: PEM text, or the path of a PEM file."),
    (
        "BOSH_CLIENT",
        "UAA client to log in to the director with, instead of a user; needs its secret.",
    ),
    ("BOSH_CLIENT_SECRET", "The secret of BOSH_CLIENT."),
    (
        "HTTPS_PROXY",
        "A proxy, as for the cf CLI: http://[USER:PASSWORD@]HOST:PORT or socks5://HOST:PORT; "
        "lower-case names are read too.",
    ),
    ("HTTP_PROXY", "The proxy for http: URLs."),
    ("ALL_PROXY", "The proxy where HTTPS_PROXY or HTTP_PROXY is not set."),
    (
        "NO_PROXY",
        "Hosts to reach directly: names, domains, addresses and networks, separated by commas, or *.  "
        "This machine is always reached directly.",
    ),
    (
        "BOSH_ALL_PROXY",
        "The proxy that pcapctl bosh uses for the director, UAA and the pcap api, as the BOSH CLI does: "
        "socks5://HOST:PORT, or ssh+socks5://USER@HOST:PORT?private-key=FILE.  With --via ssh, also for "
        "the VMs; it takes precedence over BOSH_GW_HOST.",
    ),
    (
        "BOSH_GW_HOST",
        "The jump host of pcapctl bosh --via ssh, instead of the one that the director suggests.",
    ),
    ("BOSH_GW_USER", "The user on the jump host."),
    ("BOSH_GW_PRIVATE_KEY", "The file with the key for the jump host; otherwise those of your ssh apply."),
    ("BOSH_GW_DISABLE", "With the value true, there is no jump host."),
    (
        "SSL_CERT_FILE",
        "CA certificates that replace the system's (OpenSSL); SSL_CERT_DIR is read too.",
    ),
    ("HOME", "Directory that contains .cf and .bosh."),
    (
        "XDG_CONFIG_HOME",
        "Where pcapctl extcap --install puts its launcher if tshark is missing, instead of ~/.config.",
    ),
    ("NO_COLOR", "If set and not empty, the live table has no colours."),
    ("TERM", "If it is dumb, unknown or missing, there is no live table."),
    (
        "PCAPD_PURE",
        "If set and not empty, the compiled module is not used: slower, with equal results.",
    ),
)

_FILES = (
    (
        "NAME-YYYYMMDDTHHMMSSZ.pcapng",
        "The file of a capture without --output, in the current directory: NAME is that of the app, the "
        "deployment or the first target; the time is the start in UTC.  Only you can read it.",
    ),
    (
        "FILE_INSTANCE_00001_YYYYMMDDTHHMMSSZ.pcapng",
        "Files of a capture with --split-by and --rotate-size or --rotate-time.",
    ),
    (
        "~/.cf/config.json",
        "Login and target of the cf CLI.  When pcapctl refreshes the login, it saves the new tokens here.",
    ),
    (
        "~/.bosh/config",
        "Directors and logins of the BOSH CLI.  When pcapctl refreshes a login, it saves the new tokens "
        "here.",
    ),
)

_DESCRIPTION = (
    "pcapctl requests a capture from a pcap api.  The api starts it on the agents of the machines, and "
    "pcapctl writes the packets that they send to a pcapng or pcap file.  It captures Cloud Foundry apps, "
    "VMs of BOSH deployments, and targets that the api's configuration names.  At the end a report accounts "
    "for every packet.  In the cf CLI plugin, pcapctl cf is called cf pcap."
)
_SEE_ALSO = ("pcap-filter(7)", "tcpdump(8)", "tshark(1)", "wireshark(1)", "cf(1)", "bosh(1)")

#: An option's names, as roff, and its help.
_Option = Tuple[str, str]


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl man | man -l -\n"
    "  pcapctl man > ~/.local/share/man/man1/pcapctl.1      then: man pcapctl\n"
)
def man() -> None:
    """Print the man page, pcapctl(1), in roff."""
    group = click.get_current_context().find_root().command
    assert isinstance(group, click.Group)
    print(page(group), end="")


def page(group: click.Group) -> str:
    """The man page in roff.

    Args:
        group: The commands of pcapctl.
    """
    context = click.Context(group, info_name="pcapctl", **group.context_settings)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    commands = {name: command for name, command in found.items() if command and not command.hidden}
    options = {name: _options(command.params) for name, command in commands.items()}
    shared = _shared(options)
    summary = (group.help or "").strip().rstrip(".")
    lines = [
        '.\\" Made by bin/build-man from the --help texts: do not edit.',
        f'.TH PCAPCTL 1 "" "pcapd {pcapd.__version__}" "User Commands"',
        *(".nh", ".ad l"),  # options and paths stay whole
        ".SH NAME",
        f"pcapctl \\- {_text(summary[0].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        *_synopsis(commands),
        ".SH DESCRIPTION",
        *_formatted(_DESCRIPTION, first=True),
        ".SH OPTIONS",
        *_listed(_options(group.get_params(context))),
        ".PP",
        _text("Each command also has --help."),
        ".SH COMMANDS",
    ]
    for name, command in commands.items():
        lines += _command(name, command, options[name], shared)
    lines += [".SH SHARED OPTIONS"]
    for names, together in shared.items():
        lines += [f".SS {_text(_title(names))}", *_listed(together)]
    lines += [".SH EXIT STATUS", *_listed([(_bold(str(status)), text) for status, text in STATUSES])]
    lines += [".PP", _text(CTRL_C)]
    lines += [".SH ENVIRONMENT", *_listed([(_bold(name), text) for name, text in ENVIRONMENT])]
    lines += [".SH FILES", *_listed([(_italic(name), text) for name, text in _FILES])]
    lines += [".SH EXAMPLES", *_formatted((group.epilog or "").replace("Examples:\n", ""), first=True)]
    lines += [".PP", "The section of each command has more."]
    lines += [".SH SEE ALSO", ",\n".join(_reference(name) for name in _SEE_ALSO)]
    return "\n".join(lines) + "\n"


def _synopsis(commands: Mapping[str, click.Command]) -> Iterator[str]:
    for number, (name, command) in enumerate(commands.items()):
        if number:
            yield ".br"
        options = f" [{_italic('OPTIONS')}]" if _options(command.params) else ""
        yield f"{_bold(f'pcapctl {name}')}{options}{_arguments(command)}"


def _arguments(command: click.Command) -> str:
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    return "".join(f" {_italic(argument.metavar or str(argument.name).upper())}" for argument in arguments)


def _command(
    name: str,
    command: click.Command,
    options: Sequence[_Option],
    shared: Mapping[Tuple[str, ...], List[_Option]],
) -> Iterator[str]:
    yield f".SS {_text(f'pcapctl {name}')}{_arguments(command)}"
    yield from _formatted(command.help or "", first=True)
    elsewhere = [option for together in shared.values() for option in together]
    yield from _listed([option for option in options if option not in elsewhere])
    if any(name in names for names in shared):
        yield from (".PP", "The options that it shares with other commands are listed below.")
    yield from _formatted((command.epilog or "").replace(EXIT_STATUS, ""))


# --- options --------------------------------------------------------------------


def _options(parameters: Sequence[click.Parameter]) -> List[_Option]:
    return [_option(one) for one in parameters if isinstance(one, click.Option) and not one.hidden]


def _option(option: click.Option) -> _Option:
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--"))
    value = option.metavar
    if value is None and isinstance(option.type, click.Choice):
        value = "|".join(map(str, option.type.choices))
    text = ", ".join(map(_bold, names))
    return f"{text} {_italic(value)}" if value else text, option.help or ""


def _shared(options: Mapping[str, Sequence[_Option]]) -> Dict[Tuple[str, ...], List[_Option]]:
    """The options that several commands share, by the names of those commands."""
    owners: Dict[_Option, List[str]] = {}
    for name, found in options.items():
        for option in found:
            owners.setdefault(option, []).append(name)
    shared: Dict[Tuple[str, ...], List[_Option]] = {}
    for option, names in owners.items():
        if len(names) > 1:
            shared.setdefault(tuple(names), []).append(option)
    return shared


def _title(names: Sequence[str]) -> str:
    return f"For {', '.join(names[:-1])} and {names[-1]}"


# --- roff -----------------------------------------------------------------------

_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "…": "..."}


def _text(text: str) -> str:
    """One line of text, with its white space unchanged."""
    escaped = "".join(
        _ESCAPES.get(letter, letter if letter.isascii() else f"\\[u{ord(letter):04X}]") for letter in text
    )
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_text(text)}\\fR"


def _reference(name: str) -> str:
    page, section = name.rstrip(")").split("(")
    return f"{_bold(page)}({section})"


def _listed(items: Sequence[Tuple[str, str]]) -> Iterator[str]:
    for head, text in items:
        yield from (".TP", head, _sentence(text))


def _sentence(text: str) -> str:
    return _text(re.sub(r"\s+", " ", text).strip())


def _formatted(text: str, *, first: bool = False) -> Iterator[str]:
    """Paragraphs as in click: one that begins with a backspace keeps its line breaks.

    Args:
        first: The text follows a heading directly.
    """
    above: Tuple[str, ...] = () if first else (".PP",)
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if not paragraph.strip():
            continue
        if not paragraph.lstrip(" \n").startswith("\b"):
            yield from (*above, _sentence(paragraph))
            above = (".PP",)
            continue
        lines = paragraph.replace("\b", "").strip("\n").splitlines()
        begin: Tuple[str, ...] = (".nf",)
        end: Tuple[str, ...] = (".fi",)
        yield from above
        above = (".PP",)
        if lines[0].endswith(":"):
            yield _text(lines.pop(0))
            begin, end = (".RS 4", ".nf"), (".fi", ".RE")
        yield from (*begin, *map(_text, textwrap.dedent("\n".join(lines)).splitlines()), *end)
