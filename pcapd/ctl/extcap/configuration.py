"""The answers to Wireshark: lines of the form ``word {key=value}{key=value}``.  Pure.

They use only what Wireshark 4.0 and all later versions know: a version drops arguments
of unknown types.
"""

from __future__ import annotations

from typing import Dict, Iterable, List

from pcapd.ctl.display.text import escape
from pcapd.ctl.extcap.parts import Argument, Choice, Interface
from pcapd.limits import SNAPLEN_DEFAULT, SNAPLEN_MAX

__all__ = [
    "INTERFACES",
    "Argument",
    "Choice",
    "Control",
    "Interface",
    "arguments_of",
    "choices_of",
    "interfaces",
    "link_types",
]


class Control:
    """Numbers of the toolbar's controls."""

    STOP, PACKETS, DROPPED, LOG, FINDINGS = range(5)


_INSTANCES = r"^ *(all|[0-9]+( *, *[0-9]+)*)? *$"
#: Durations for `parse_duration` that are more than 0.
_DURATION = r"^ *(?=.*[1-9])[0-9]+([.][0-9]+)? ?(ms|s|m|h) *$"
#: Names with dots are those of display filters; capture filters have dots only in addresses.
_FILTER = r"^(?!.*[A-Za-z_][.][A-Za-z_])[^\x00-\x1f\x7f]*$"
#: `pcapd.wire.Request` checks the length in characters.
_REASON = r"^[^\x00-\x1f\x7f]*$"
_CA = Argument(
    "--ca",
    "CA of the certificates",
    "PEM file of the CA that signed the certificates, if the system does not know it",
    type="fileselect",
    group="Access",
)
_TOKEN_FILE = Argument(
    "--token-file",
    "File with your token",
    "The token is read from this file (or PCAP_TOKEN)",
    type="fileselect",
    group="Access",
)
_API = Argument("--api", "pcap api", "URL of the pcap api (or PCAP_API)", group="Access")
_CAPTURE = (
    Argument(
        "--device",
        "Devices",
        "Interfaces to capture on, with commas; on lo, what Envoy encrypts on eth0 is in clear",
        placeholder="eth0",
    ),
    Argument(
        "--filter",
        "Capture filter",
        "See pcap-filter(7); applied where the packets are captured, in addition to Wireshark's own field",
        placeholder="tcp port 8080",
        validation=_FILTER,
    ),
    Argument(
        "--snaplen",
        "Bytes of each packet",
        f"Bytes to keep of each packet; {SNAPLEN_DEFAULT} keeps all",
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
        "--reason",
        "Reason",
        "Why you capture, such as a ticket, for the api's audit record (or PCAP_REASON)",
        placeholder="if your operator requires one",
        validation=_REASON,
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
        "Hold packets back for a moment, to sort those of all instances by time",
        type="boolean",
        default="true",
    ),
    Argument(
        "--explain",
        "Explain",
        "Count errors found in the traffic in the toolbar, and explain them in its log at the end",
        type="boolean",
        default="false",
    ),
    Argument(
        "--show-contents",
        "Show contents",
        "In explanations, also show query strings, hosts and the beginning of failed responses",
        type="boolean",
        default="false",
    ),
)

#: What the app's selector shows before its button is pressed.
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
            # Without a value, Wireshark opens the options; it saves nothing before.
            required=True,
            reload=True,
            choices=(_NOT_LOADED,),
        ),
        Argument(
            "--instances",
            "Instances",
            "For example 0,2; empty for all",
            group="App",
            placeholder="all",
            validation=_INSTANCES,
        ),
        Argument("--type", "Process type", "For example web or worker", group="App", default="web"),
        Argument(
            "--follow",
            "Follow the app",
            "Also capture instances that restart, move or are added",
            type="boolean",
            group="App",
            default="false",
        ),
        *_CAPTURE,
        Argument(
            _API.call,
            _API.display,
            "URL of the pcap api (or PCAP_API), if Cloud Controller does not provide it",
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
        Argument("--groups", "Instance groups", "Separated by commas", group="VMs", required=True),
        Argument(
            "--instances",
            "Instances",
            "IDs, indices or GROUP/ID, separated by commas; empty for all",
            group="VMs",
            placeholder="all",
        ),
        Argument(
            "--yes",
            "More than five VMs",
            "Allow a capture of more than five VMs, which is refused otherwise",
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
            "Targets of the api's configuration, separated by commas",
            group="Hosts",
            required=True,
        ),
        *_CAPTURE,
        _API,
        _TOKEN_FILE,
        _CA,
    ),
)
#: What differs where there is no agent.
_OVER_SSH = {
    one.call: one
    for one in (
        Argument(
            "--device",
            "Devices",
            "Interfaces to capture on, with commas; any captures all",
            placeholder="that of the default route",
        ),
        Argument(
            "--headers-only",
            "Headers only",
            "Cut every packet here, after its TCP, UDP or ICMP header: the payload comes over ssh",
            type="boolean",
            default="false",
        ),
    )
}
_SSH = Interface(
    "pcapctl-ssh",
    "hosts over ssh",
    (
        Argument(
            "--hosts",
            "Hosts",
            "[USER@]HOST, as ssh knows them, with commas; they need no agent, only tcpdump or dumpcap",
            group="Hosts",
            required=True,
        ),
        Argument(
            "--ssh-options",
            "Options of ssh",
            "As on its command line, for example -J jump.example.com; ssh must need no password here",
            group="Hosts",
        ),
        *(_OVER_SSH.get(one.call, one) for one in _CAPTURE),
        Argument(
            "--include-ssh",
            "Include ssh",
            "Capture also the port of the ssh server, with this capture's own connection",
            type="boolean",
            default="false",
        ),
    ),
)

_RECORDINGS = Interface(
    "pcapctl-recordings",
    "pcapd recordings",
    (
        Argument(
            "--recording",
            "Recording",
            "Your recordings at the pcap api",
            type="selector",
            group="Recording",
            required=True,
            reload=True,
            choices=(Choice("", "reload to see your recordings", default=True),),
        ),
        Argument(
            "--last",
            "The last",
            "Only the last minutes, such as 30s, 5m or 1h",
            group="Recording",
            placeholder="all",
            validation=_DURATION,
        ),
        Argument(
            "--tail",
            "Follow",
            "Go on while it records",
            type="boolean",
            group="Recording",
            default="false",
        ),
        Argument(
            _API.call,
            _API.display,
            "URL of the pcap api (or PCAP_API), if Cloud Controller does not provide it",
            group="Access",
        ),
        _TOKEN_FILE,
        Argument(
            "--environment",
            "Director",
            "Alias or URL, to use the BOSH CLI's login instead of the cf CLI's",
            group="Access",
        ),
        _CA,
    ),
)

#: By the names that Wireshark uses.
INTERFACES: Dict[str, Interface] = {one.value: one for one in (_CF, _BOSH, _HOSTS, _SSH, _RECORDINGS)}

_CONTROLS = (
    (
        Control.STOP,
        "button",
        "Stop",
        "End the capture in good order: packets captured until now still arrive",
    ),
    (Control.PACKETS, "string", "Packets", "Packets received"),
    (Control.DROPPED, "string", "Dropped", "Packets dropped, by place"),
    (Control.FINDINGS, "string", "Findings", "Errors and warnings found in the traffic, if it is explained"),
    (Control.LOG, "button", "Log", "Messages of pcapctl"),
)


def interfaces(version: str) -> List[str]:
    """Answer to ``--extcap-interfaces``: the interfaces, and the toolbar that they share."""
    lines = [_line("extcap", version=version, display="pcapd")]
    lines += [_line("interface", value=one.value, display=one.display) for one in INTERFACES.values()]
    for number, kind, display, tooltip in _CONTROLS:
        role = "logger" if number == Control.LOG else ""
        lines.append(_line("control", number=number, type=kind, role=role, display=display, tooltip=tooltip))
    return lines


def link_types() -> List[str]:
    """Answer to ``--extcap-dlts``: the file itself records the link type of each source."""
    return [_line("dlt", number=1, name="EN10MB", display="Ethernet")]


def arguments_of(interface: Interface) -> List[str]:
    """Answer to ``--extcap-config``."""
    lines = []
    for number, one in enumerate(interface.arguments):
        lines.append(
            _line(
                "arg",
                number=number,
                call=one.call,
                display=one.display,
                # Error messages contain the names of the options.
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
    # Empty values must be included.
    return [
        f"value {{arg={number}}}{{value={_plain(one.value)}}}{{display={_plain(one.display)}}}"
        + ("{default=true}" if one.default else "")
        for one in choices
    ]


def _line(word: str, **fields: object) -> str:
    plain = ((key, _plain(str(value))) for key, value in fields.items())
    return f"{word} " + "".join(f"{{{key}={value}}}" for key, value in plain if value)


def _plain(text: str) -> str:
    """The text without characters that would end a field or the line."""
    return escape(text).replace("{", "(").replace("}", ")")
