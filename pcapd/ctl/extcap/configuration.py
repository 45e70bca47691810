"""What Wireshark is answered: sentences of the kind ``word {key=value}{key=value}``.  Pure.

Only what Wireshark 4.0 knows, and every later version does: types of arguments that a
version does not know are dropped by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from pcapd.ctl.display.text import escape
from pcapd.limits import FILTER_MAX, SNAPLEN_DEFAULT, SNAPLEN_MAX

__all__ = [
    "INTERFACES",
    "Argument",
    "Choice",
    "Control",
    "Interface",
    "arguments_of",
    "choices_of",
    "filter_problem",
    "interfaces",
    "link_types",
]


class Choice(NamedTuple):
    """One value of a selector."""

    value: str
    display: str
    default: bool = False


@dataclass(frozen=True)
class Argument:
    """One field of the dialog.

    Attributes:
        call: The option by which it comes back.
        type: As extcap has it: string, selector, fileselect, integer, boolean.
        range: Of an integer.
        reload: There is a button that asks for the choices anew.
        choices: Of a selector.
    """

    call: str
    display: str
    tooltip: str
    type: str = "string"
    group: str = "Capture"
    default: str = ""
    placeholder: str = ""
    required: bool = False
    range: Optional[Tuple[int, int]] = None
    reload: bool = False
    validation: str = ""
    choices: Tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Interface:
    """One of ours in Wireshark's list."""

    value: str
    display: str
    arguments: Tuple[Argument, ...]


class Control:
    """Numbers of what is in the toolbar."""

    STOP, PACKETS, DROPPED, LOG = range(4)


_INSTANCES = r"^ *(all|[0-9]+( *, *[0-9]+)*)? *$"
#: As `parse_duration` reads it, and more than 0.
_DURATION = r"^ *(?=.*[1-9])[0-9]+([.][0-9]+)? ?(ms|s|m|h) *$"
#: Wireshark's display filters have names with dots, capture filters only addresses.
_FILTER = r"^(?!.*[A-Za-z_][.][A-Za-z_])[^\x00-\x1f\x7f]*$"
_CA = Argument(
    "--ca",
    "Authority of the certificates",
    "PEM file of the authority that signed the certificates, where the system does not know it",
    type="fileselect",
    group="Access",
)
_API = Argument("--api", "pcap api", "URL of the pcap api (or PCAP_API)", group="Access")
_CAPTURE = (
    Argument(
        "--device",
        "Devices",
        "Interfaces to capture on, with commas; lo has in clear what Envoy encrypts on eth0",
        placeholder="eth0",
    ),
    Argument(
        "--filter",
        "Capture filter",
        "See pcap-filter(7); it works where the packets are, besides Wireshark's own field",
        placeholder="tcp port 8080",
        validation=_FILTER,
    ),
    Argument(
        "--snaplen",
        "Bytes of each packet",
        f"Bytes of each packet to keep; {SNAPLEN_DEFAULT} keeps all",
        type="integer",
        default=str(SNAPLEN_DEFAULT),
        range=(1, SNAPLEN_MAX),
    ),
    Argument(
        "--headers-only",
        "Headers only",
        "Cut every packet after its TCP, UDP or ICMP header: no payload leaves the machine",
        type="boolean",
        default="false",
    ),
    Argument(
        "--duration",
        "Duration",
        "Stop after this time, such as 30s, 5m or 1h",
        placeholder="no limit",
        validation=_DURATION,
    ),
    Argument(
        "--order",
        "In time order",
        "Hold packets back for a moment, so that those of all instances are in time order",
        type="boolean",
        default="true",
    ),
)

#: What the app's selector shows before somebody presses its button.
_NOT_LOADED = Choice("", "reload to see the apps of your space", default=True)

_CF = Interface(
    "pcapctl-cf",
    "Cloud Foundry app",
    (
        Argument(
            "--app",
            "App",
            "Apps of the space that the cf CLI targets (cf login, cf target -s SPACE)",
            type="selector",
            group="App",
            # Wireshark opens the options when nothing was chosen yet, and saves nothing before.
            required=True,
            reload=True,
            choices=(_NOT_LOADED,),
        ),
        Argument(
            "--instances",
            "Instances",
            "Such as 0,2; all where nothing is here",
            group="App",
            placeholder="all",
            validation=_INSTANCES,
        ),
        Argument("--type", "Process type", "Such as web or worker", group="App", default="web"),
        Argument(
            "--follow",
            "Follow the app",
            "Go on with instances that restart, move or are added",
            type="boolean",
            group="App",
            default="false",
        ),
        *_CAPTURE,
        Argument(
            _API.call,
            _API.display,
            "URL of the pcap api (or PCAP_API), where Cloud Controller does not tell it",
            group="Access",
            placeholder="from Cloud Controller",
        ),
        _CA,
    ),
)
_BOSH = Interface(
    "pcapctl-bosh",
    "BOSH VMs",
    (
        Argument("--deployment", "Deployment", "Its name (or BOSH_DEPLOYMENT)", group="VMs"),
        Argument("--groups", "Instance groups", "With commas", group="VMs", required=True),
        Argument(
            "--instances",
            "Instances",
            "Ids, indices or GROUP/ID, with commas; all where nothing is here",
            group="VMs",
            placeholder="all",
        ),
        Argument(
            "--yes",
            "More than five VMs",
            "Capture on however many VMs there are, which otherwise is refused",
            type="boolean",
            group="VMs",
            default="false",
        ),
        *_CAPTURE,
        Argument(
            "--environment",
            "Director",
            "Alias or URL (or BOSH_ENVIRONMENT); log in with: bosh -e ENV log-in",
            group="Access",
        ),
        _API,
        _CA,
    ),
)
_HOSTS = Interface(
    "pcapctl-hosts",
    "pcapd hosts",
    (
        Argument(
            "--targets",
            "Hosts",
            "Names of the api's configuration, with commas",
            group="Hosts",
            required=True,
        ),
        *_CAPTURE,
        _API,
        Argument(
            "--token-file",
            "File with your token",
            "The token is read from this file (or PCAP_TOKEN)",
            type="fileselect",
            group="Access",
        ),
        _CA,
    ),
)

#: By the names under which Wireshark calls for them.
INTERFACES: Dict[str, Interface] = {one.value: one for one in (_CF, _BOSH, _HOSTS)}

_CONTROLS = (
    (
        Control.STOP,
        "button",
        "Stop",
        "End the capture in good order: what was captured until now still comes",
    ),
    (Control.PACKETS, "string", "Packets", "Packets that have come"),
    (Control.DROPPED, "string", "Dropped", "Packets that were dropped, by place"),
    (Control.LOG, "button", "Log", "What pcapctl says"),
)


def interfaces(version: str) -> List[str]:
    """Answer to ``--extcap-interfaces``: what there is, and the toolbar of all of it."""
    lines = [_sentence("extcap", version=version, display="pcapd")]
    lines += [_sentence("interface", value=one.value, display=one.display) for one in INTERFACES.values()]
    for number, kind, display, tooltip in _CONTROLS:
        role = "logger" if number == Control.LOG else ""
        lines.append(
            _sentence("control", number=number, type=kind, role=role, display=display, tooltip=tooltip)
        )
    return lines


def link_types() -> List[str]:
    """Answer to ``--extcap-dlts``: a file of ours says for each source what it is."""
    return [_sentence("dlt", number=1, name="EN10MB", display="Ethernet")]


def arguments_of(interface: Interface) -> List[str]:
    """Answer to ``--extcap-config``."""
    lines = []
    for number, one in enumerate(interface.arguments):
        lines.append(
            _sentence(
                "arg",
                number=number,
                call=one.call,
                display=one.display,
                # What goes wrong is told with the options' names.
                tooltip=f"{one.tooltip} ({one.call})",
                type=one.type,
                default=one.default,
                range="" if one.range is None else "{},{}".format(*one.range),
                placeholder=one.placeholder,
                validation=one.validation,
                required="true" if one.required else "",
                reload="true" if one.reload else "",
                mustexist="true" if one.type == "fileselect" else "",
                group=one.group,
            )
        )
        lines += _choices(number, one.choices)
    return lines


def choices_of(interface: Interface, call: str, choices: Iterable[Choice]) -> List[str]:
    """Answer to ``--extcap-reload-option``: the new values of an argument."""
    numbers = [number for number, one in enumerate(interface.arguments) if one.call == call]
    return _choices(numbers[0], choices)


def _choices(number: int, choices: Iterable[Choice]) -> List[str]:
    # An empty value must be told, too.
    return [
        f"value {{arg={number}}}{{value={_plain(one.value)}}}{{display={_plain(one.display)}}}"
        + ("{default=true}" if one.default else "")
        for one in choices
    ]


def _sentence(word: str, **fields: object) -> str:
    told = ((key, _plain(str(value))) for key, value in fields.items())
    return f"{word} " + "".join(f"{{{key}={value}}}" for key, value in told if value)


def _plain(text: str) -> str:
    """Text without what would end a sentence's field or the sentence."""
    return escape(text).replace("{", "(").replace("}", ")")


def filter_problem(text: str) -> str:
    """What is wrong with a capture filter, as far as that is seen without libpcap; empty when nothing.

    The agent's libpcap decides when the capture starts.
    """
    if len(text.encode("utf-8", "surrogateescape")) > FILTER_MAX:
        return f"a filter has at most {FILTER_MAX} bytes"
    if not text.isprintable():
        return "a filter has no control characters"
    opened: List[int] = []
    for place, character in enumerate(text, 1):
        if character == "(":
            opened.append(place)
        elif character == ")":
            if not opened:
                return f"the ) at character {place} closes nothing"
            opened.pop()
    return f"the ( at character {opened[-1]} is not closed" if opened else ""
