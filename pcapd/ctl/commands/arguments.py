"""The options that ``pcapctl`` commands share: names, types, units and help."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Callable, List, Tuple, TypeVar

import click
from click.shell_completion import CompletionItem

from pcapd.ctl.commands.besides import RESUMABLE
from pcapd.ctl.commands.quantities import Place, Quantity, megabytes, parse_time, size_with_unit
from pcapd.errors import PcapdError
from pcapd.limits import SNAPLEN_DEFAULT, SNAPLEN_MAX

__all__ = [
    "EXIT_STATUS",
    "CaptureCommand",
    "access_options",
    "capture_options",
    "combined",
    "contents_option",
    "direct_capture_options",
    "environment_option",
    "files",
    "force_option",
    "login_options",
    "one_of",
    "selection_options",
    "ssh_hosts",
    "token_file_option",
]

F = TypeVar("F", bound=Callable[..., Any])

Items = List["CompletionItem[str]"]  # generic only in newer click
Complete = Callable[[Any, Any, str], Items]

#: Options of tcpdump for what pcapctl always does: no name look-ups, whole blocks, lines at once.
_HABITS = ("-n", "-U", "-l")

#: The completion scripts split a word at any other character.
_WHOLE_WORD = re.compile(r"[\w.@+-]+")

STATUSES = (
    (0, "complete, and nothing was lost"),
    (1, "failed"),
    (2, "wrong usage"),
    (3, "the file is valid, but an instance failed or packets were dropped"),
)
CTRL_C = (
    "The first Ctrl-C stops the capture, receives the packets in flight, finishes the file and shows what it "
    "waits for; the second leaves at once.  A closed terminal (SIGHUP) acts like the first Ctrl-C, except "
    "under nohup."
)

STATUS_TABLE = "\b\nExit status:\n" + "".join(f"  {status}  {text}\n" for status, text in STATUSES)
#: The end of the help of every command that captures.
EXIT_STATUS = f"{STATUS_TABLE}\n{CTRL_C}"


def files(context: Any, parameter: Any, incomplete: str) -> Items:
    """Complete paths: the shell does it itself."""
    return [CompletionItem(incomplete, type="file")]


def one_of(*values: str) -> Complete:
    """Complete the usual values; others are accepted too."""

    def complete(context: Any, parameter: Any, incomplete: str) -> Items:
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return complete


def environments(context: Any, parameter: Any, incomplete: str) -> Items:
    """Complete the aliases of directors in the BOSH CLI's configuration, if it can be read."""
    # Importing YAML takes time; other completions do not need it.
    from pcapd.ctl.login.boshconfig import config_path
    from pcapd.ctl.login.boshlogin import read_aliases

    try:
        known = read_aliases(config_path(os.environ))
    except PcapdError:
        return []
    names = [name for name in known if name.startswith(incomplete) and _WHOLE_WORD.fullmatch(name)]
    return [CompletionItem(name) for name in names]


def ssh_hosts(context: Any, parameter: Any, incomplete: str) -> Items:
    """Complete HOST or USER@HOST from the user's and the system's ssh configuration and known hosts."""
    from pcapd.ctl.ssh.names import host_names

    # zsh and fish complete the whole word.  bash splits it before and after the @, and then replaces
    # the @ too.
    user, at, begun = incomplete.rpartition("@")
    if (context.params.get("hosts") or ())[-1:] == ("@",):
        at = "@"
    try:
        known = host_names(Path.home())
    except RuntimeError:  # there is no home directory
        return []
    return [CompletionItem(f"{user}{at}{name}") for name in known if name.startswith(begun)]


def _interfaces(context: Any, parameter: Any, given: Tuple[str, ...]) -> Tuple[str, ...]:
    """Those of ``-i eth0,lo``, each once."""
    return tuple(dict.fromkeys(name.strip() for names in given for name in names.split(",")))


def _snaplen(context: Any, parameter: Any, given: int) -> int:
    return given or SNAPLEN_MAX


class CaptureCommand(click.Command):
    """A command that accepts its filter after ``--``, as unquoted words."""

    def parse_args(self, ctx: Any, args: List[str]) -> List[str]:
        """Read the command line."""
        behind: List[str] = []
        if "--" in args:
            place = args.index("--")
            args, behind = args[:place], args[place + 1 :]
        rest = super().parse_args(ctx, args)
        words = [*ctx.params.pop("words", ()), *behind]
        if words and ctx.params.get("filter"):
            raise click.UsageError("there are two filters: --filter, and the words after the name", ctx)
        if words:
            ctx.params["filter"] = " ".join(words)
        return rest


def combined(*options: Callable[[F], F]) -> Callable[[F], F]:
    """A decorator that adds all these options, in this order in ``--help``."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_JSON = click.option("--json", is_flag=True, help="Print JSON lines for scripts instead of text.")

_ACCESS = (
    click.option("--api", "-u", envvar="PCAP_API", metavar="URL", help="URL of the pcap api (or PCAP_API)."),
    click.option(
        "--ca",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="CA of the api's certificate (PEM).",
    ),
    click.option("--insecure", is_flag=True, help="Do not check certificates; prints a warning each time."),
)
#: The options of every command that asks an api.
access_options = combined(*_ACCESS, _JSON)

contents_option = click.option(
    "--show-contents",
    is_flag=True,
    help="In findings, also show query strings, hosts and the beginning of failed responses, which are "
    "left out otherwise.",
)

force_option = click.option("--force", is_flag=True, help="Overwrite an existing file.")

_FILTER = click.option(
    "--filter", "-f", "-F", default="", metavar="EXPR", help="BPF filter, see pcap-filter(7)."
)
_DEVICE = click.option(
    "--device",
    "-i",
    "devices",
    multiple=True,
    metavar="IF",
    shell_complete=one_of("eth0", "lo"),
    callback=_interfaces,
    help="Interface; repeatable, or a list with commas; any is each interface that is up, now or later.  "
    "[default: eth0]",
)
_SNAPLEN = click.option(
    "--snaplen",
    "-s",
    type=click.IntRange(0, SNAPLEN_MAX),
    default=SNAPLEN_DEFAULT,
    metavar="N",
    callback=_snaplen,
    help="Bytes to keep of each packet (snaplen); 0 is all.  [default: all]",
)
_HEADERS_ONLY_HELP = "Cut every packet after its TCP, UDP or ICMP header: no payload leaves the machine."
_REASON = click.option(
    "--reason",
    default="",
    envvar="PCAP_REASON",
    metavar="TEXT",
    help="Why you capture, such as a ticket, for the api's audit record (or PCAP_REASON); the operator "
    "may require it.",
)
#: What is captured, for every command that captures or records.
selection_options = combined(
    _FILTER,
    _DEVICE,
    _SNAPLEN,
    click.option("--headers-only", is_flag=True, help=_HEADERS_ONLY_HELP),
    _REASON,
)

#: The options of every command that captures, without an api.
direct_capture_options = combined(
    click.option(
        "--output",
        "-o",
        "-w",
        "--file",
        metavar="FILE|-",
        shell_complete=files,
        help="Output file; - is standard output, NAME.gz is compressed.  "
        "[default: NAME-YYYYMMDDTHHMMSSZ.pcapng]",
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(["pcapng", "pcap"]),
        help="File format.  [default: by FILE's suffix, else pcapng]",
    ),
    _FILTER,
    _DEVICE,
    click.option(
        "--list-interfaces",
        "-D",
        is_flag=True,
        help="List the interfaces that are up, with their addresses, and exit.",
    ),
    _SNAPLEN,
    click.option(
        "--headers-only",
        is_flag=True,
        help=f"{_HEADERS_ONLY_HELP}  Over ssh, packets are cut only here.",
    ),
    _REASON,
    click.option("--count", "-c", type=click.IntRange(1), metavar="N", help="Stop after N packets."),
    click.option(
        "--duration",
        type=Quantity("duration", parse_time),
        metavar="30s|5m|1h30m",
        help="Stop after this time; a number without a unit is seconds.",
    ),
    click.option(
        "--max-bytes",
        type=Quantity("size", size_with_unit),
        metavar="100MB",
        help="Stop before the file grows larger.",
    ),
    click.option(
        "--rotate-size",
        type=Quantity("size", size_with_unit),
        metavar="100MB",
        help="Start a new file before this size is exceeded: FILE_00001_YYYYMMDDTHHMMSSZ.pcapng, _00002_…",
    ),
    click.option(
        "-C",
        "rotate_megabytes",
        type=Quantity("size", megabytes),
        metavar="N",
        help="Like --rotate-size, in units of 1000000 bytes, as in tcpdump.",
    ),
    click.option(
        "--rotate-time",
        "-G",
        type=Quantity("duration", parse_time),
        metavar="5m",
        help="Start a new file after this time; a number without a unit is seconds.",
    ),
    click.option(
        "--rotate-files",
        type=click.IntRange(1),
        metavar="N",
        help="Keep the newest N files and delete older ones (a ring; with --split-by, N for each instance).",
    ),
    click.option(
        "-W",
        "files_wanted",
        type=click.IntRange(1),
        metavar="N",
        help="With -C, like --rotate-files; with -G alone, stop after N files, as tcpdump does.",
    ),
    click.option(
        "--split-by",
        type=click.Choice(["instance"]),
        help="Write a file for each instance: FILE_INSTANCE.pcapng.",
    ),
    click.option(
        "--print",
        is_flag=True,
        help="Print one line per packet to standard output: time, instance, addresses, protocol, length, "
        "and the first line of unencrypted HTTP, DNS names or the TLS server name.  For low rates, up to "
        "some ten thousand packets a second: the capture waits for the output, and the kernel counts what "
        "it drops meanwhile.  Without --output, no file is written.",
    ),
    click.option("-A", "ascii", is_flag=True, help="Like --print, plus all after the link header as text."),
    click.option("-X", "hex", is_flag=True, help="Like -A, in hexadecimal and as text."),
    click.option(
        "--packet-ids",
        is_flag=True,
        help="Give a packet that is seen at several instances the same number (epb_packetid) at each; "
        "pcapctl flows FILE then shows delays and losses.  Without the compiled modules, as in the one-file "
        "client, this is for up to some ten thousand packets a second.",
    ),
    click.option(
        "--dedupe",
        is_flag=True,
        help="Keep only the first sighting of a packet that is seen at several instances; count the others.",
    ),
    click.option(
        "--align",
        is_flag=True,
        help="Correct the times of packets by the clock offset of each machine, which is measured when the "
        "capture starts.  pcapctl align IN OUT is more exact: it also uses the packets.",
    ),
    click.option(
        "--serve",
        type=Place(),
        metavar="HOST:PORT",
        help="Serve the capture to TCP readers (PCAP-over-IP), for example: tshark -i TCP@127.0.0.1:57012. "
        "Slow readers are disconnected.  Without --output, no file is written.",
    ),
    click.option(
        "--explain",
        is_flag=True,
        help="Explain what went wrong in the traffic: the number of findings while the capture runs, and the "
        "findings at the end, as pcapctl explain FILE does.",
    ),
    contents_option,
    click.option("--order/--no-order", default=True, help="Write in time order.  [default: order]"),
    force_option,
    click.option(
        "--report",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a JSON report of the capture, also after failures.",
    ),
    _JSON,
    click.option("--quiet", "-q", is_flag=True, help="Print only problems."),
    click.option("--verbose", "-v", is_flag=True, help="Print more details."),
    *(click.option(name, count=True, hidden=True, expose_value=False) for name in _HABITS),
)

#: The options of every command that captures through an api.
capture_options = combined(direct_capture_options, *RESUMABLE, *_ACCESS)

token_file_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with your token (or PCAP_TOKEN).",
)

environment_option = click.option(
    "--environment",
    "-e",
    metavar="ENV",
    shell_complete=environments,
    help="Director: alias or URL (or BOSH_ENVIRONMENT).",
)

#: The options of the commands that ask an api about what belongs to a user, with any of their logins.
login_options = combined(
    *_ACCESS,
    click.option(
        "--login",
        type=click.Choice(["token", "cf", "bosh"]),
        help="Which login to use.  [default: the token of --token-file or PCAP_TOKEN if there is one; else "
        "that of the cf CLI; else that of the BOSH CLI]",
    ),
    token_file_option,
    environment_option,
    _JSON,
)
