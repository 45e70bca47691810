"""``pcapctl man``: the man page, pcapctl(1), made from what ``--help`` says, and what both have from here.

The language is man(7) as groff and mandoc understand it, in ASCII.
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

#: What pcapctl reads, by who else reads it.
ENVIRONMENT = (
    ("PCAP_API", "URL of the pcap api; --api goes before it."),
    ("PCAP_TOKEN", "Your token for pcapctl hosts; --token-file goes before it."),
    ("CF_HOME", "Directory in which the cf CLI has its .cf, instead of HOME."),
    ("BOSH_CONFIG", "Configuration of the BOSH CLI, instead of ~/.bosh/config."),
    ("BOSH_ENVIRONMENT", "The director, by alias or URL; --environment goes before it."),
    ("BOSH_DEPLOYMENT", "The deployment; --deployment goes before it."),
    ("BOSH_CA_CERT", "Authority of the director and its UAA: PEM, or the path of such a file."),
    ("BOSH_CLIENT", "A UAA client to log in to the director with, instead of a user; needs its secret."),
    ("BOSH_CLIENT_SECRET", "The secret of BOSH_CLIENT."),
    (
        "HTTPS_PROXY",
        "A proxy, as for the cf CLI: http://[USER:PASSWORD@]HOST:PORT or socks5://HOST:PORT; "
        "lower case counts too.",
    ),
    ("HTTP_PROXY", "The same, for URLs that begin with http:."),
    ("ALL_PROXY", "The same, where HTTPS_PROXY or HTTP_PROXY is not set."),
    (
        "NO_PROXY",
        "Hosts to reach directly: names, domains, addresses and networks, with commas, or *.  "
        "This machine is always reached directly.",
    ),
    (
        "BOSH_ALL_PROXY",
        "The proxy of pcapctl bosh, for the director, UAA and the pcap api, as for the BOSH CLI: "
        "socks5://HOST:PORT, or ssh+socks5://USER@HOST:PORT?private-key=FILE.",
    ),
    ("SSL_CERT_FILE", "Authorities to trust instead of the system's (OpenSSL), as is SSL_CERT_DIR."),
    ("HOME", "Where .cf and .bosh are looked for."),
    (
        "XDG_CONFIG_HOME",
        "Where pcapctl extcap --install puts its launcher, without tshark, instead of ~/.config.",
    ),
    ("NO_COLOR", "When it is set and not empty, the live table has no colours."),
    ("TERM", "When it is dumb, unknown or missing, there is no live table."),
    (
        "PCAPD_PURE",
        "When it is set and not empty, the compiled module is not used: slower, with equal results.",
    ),
)

_FILES = (
    (
        "NAME-YYYYMMDDTHHMMSSZ.pcapng",
        "What a capture writes without --output, in the current directory: NAME is that of the app, the "
        "deployment or the first target, and the time is that of the start, in UTC.  Readable by you alone.",
    ),
    (
        "FILE_INSTANCE_00001_YYYYMMDDTHHMMSSZ.pcapng",
        "Files of a capture with --split-by and --rotate-size or --rotate-time.",
    ),
    (
        "~/.cf/config.json",
        "Login and target of the cf CLI.  When the login was refreshed, pcapctl puts the new tokens into it.",
    ),
    (
        "~/.bosh/config",
        "Directors and logins of the BOSH CLI.  When a login was refreshed, pcapctl puts the new tokens "
        "into it.",
    ),
)

_DESCRIPTION = (
    "pcapctl asks a pcap api for a capture.  The api asks the agents on the machines, and pcapctl writes "
    "what they send as pcapng or pcap: for Cloud Foundry apps, for VMs of BOSH deployments, and for targets "
    "of the api's configuration.  At the end a report says what became of every packet.  As a plugin of "
    "the cf CLI, pcapctl cf is cf pcap."
)
_SEE_ALSO = ("pcap-filter(7)", "tcpdump(8)", "tshark(1)", "wireshark(1)", "cf(1)", "bosh(1)")

#: What an option is called, as roff, and what it is for.
_Option = Tuple[str, str]


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl man | man -l -\n"
    "  pcapctl man > ~/.local/share/man/man1/pcapctl.1      then: man pcapctl\n"
)
def man() -> None:
    """Print the man page, pcapctl(1), in the language of man."""
    group = click.get_current_context().find_root().command
    assert isinstance(group, click.Group)
    print(page(group), end="")


def page(group: click.Group) -> str:
    """The man page.

    Args:
        group: pcapctl.
    """
    context = click.Context(group, info_name="pcapctl", **group.context_settings)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    commands = {name: command for name, command in found.items() if command and not command.hidden}
    options = {name: _options(command.params) for name, command in commands.items()}
    shared = _shared(options)
    summary = (group.help or "").strip().rstrip(".")
    lines = [
        '.\\" Made by bin/build-man from what --help says: do not edit.',
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
        _text("Each command has --help, too."),
        ".SH COMMANDS",
    ]
    for name, command in commands.items():
        lines += _command(name, command, options[name], shared)
    lines += [".SH SHARED OPTIONS"]
    for names, together in shared.items():
        lines += [f".SS {_text(_title(names))}", *_listed(together)]
    lines += [".SH EXIT STATUS", *_listed([(_bold(str(status)), words) for status, words in STATUSES])]
    lines += [".PP", _text(CTRL_C)]
    lines += [".SH ENVIRONMENT", *_listed([(_bold(name), words) for name, words in ENVIRONMENT])]
    lines += [".SH FILES", *_listed([(_italic(name), words) for name, words in _FILES])]
    lines += [".SH EXAMPLES", *_formatted((group.epilog or "").replace("Examples:\n", ""), first=True)]
    lines += [".PP", "Each command above has more."]
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
        yield from (".PP", "And those of its options that other commands share, below.")
    yield from _formatted((command.epilog or "").replace(EXIT_STATUS, ""))


# --- options --------------------------------------------------------------------


def _options(parameters: Sequence[click.Parameter]) -> List[_Option]:
    return [_option(one) for one in parameters if isinstance(one, click.Option) and not one.hidden]


def _option(option: click.Option) -> _Option:
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--"))
    value = option.metavar
    if value is None and isinstance(option.type, click.Choice):
        value = "|".join(map(str, option.type.choices))
    words = ", ".join(map(_bold, names))
    return f"{words} {_italic(value)}" if value else words, option.help or ""


def _shared(options: Mapping[str, Sequence[_Option]]) -> Dict[Tuple[str, ...], List[_Option]]:
    """Options that several commands have, by the names of these commands."""
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
    return f"Of {', '.join(names[:-1])} and {names[-1]}"


# --- roff -----------------------------------------------------------------------

_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "…": "..."}


def _text(text: str) -> str:
    """One line of text, with its white space as it is."""
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
    for head, words in items:
        yield from (".TP", head, _sentence(words))


def _sentence(text: str) -> str:
    return _text(re.sub(r"\s+", " ", text).strip())


def _formatted(text: str, *, first: bool = False) -> Iterator[str]:
    """Paragraphs as click has them: one that begins with a backspace stays in its lines.

    Args:
        first: They stand directly below a heading.
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
