"""The options of a capture, checked before anything starts."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

from pcapd.ctl.sinks.fileoptions import FileOptions
from pcapd.errors import PcapdError
from pcapd.limits import INSTANCES_MAX, SNAPLEN_DEFAULT
from pcapd.savefile.form import Form
from pcapd.wire import App, Besides, Deployment, Request

__all__ = [
    "FAILED",
    "USAGE",
    "Access",
    "CaptureOptions",
    "CaptureTarget",
    "Trust",
    "UsageProblem",
    "default_output",
    "instances_text",
    "parse_instances",
    "parse_places",
    "read_token",
]

#: Exit statuses if no capture began; the others are in `pcapd.ctl.stream.session.Outcome`.
FAILED, USAGE = 1, 2

STDOUT = "-"
#: Value of `CaptureOptions.output` if no file is written.
NOWHERE = ""
_RANGE = re.compile(rf"([0-9]{{1,{len(str(INSTANCES_MAX))}}})(?:-([0-9]{{1,{len(str(INSTANCES_MAX))}}}))?")
_COMPRESSED_SUFFIXES = (".zst", ".xz", ".bz2", ".lz4", ".lzma", ".br", ".z", ".zip", ".7z")
_CLASSIC_SUFFIXES = (".pcap", ".cap", ".dmp")


class UsageProblem(PcapdError):
    """The command line is incomplete or contradicts itself: exit status 2."""


class Trust(Enum):
    """The CAs with which a server's certificate is verified."""

    GIVEN = auto()  #: the given CA; without one, those of the system
    ALSO_GIVEN = auto()  #: those of the system, and the given CA
    ANYBODY = auto()  #: certificates are not verified


@dataclass(frozen=True)
class Access:
    """How to connect to the api.

    Attributes:
        api: The api's URL.
        ca: File of the CA that signed the api's certificate; None for the system's CAs.
        pem: CA certificates as text, instead of `ca`.
        bosh: Use the proxy that the BOSH CLI's own variable names.
        guessed: Nobody named the api's URL, so there may be no api.
    """

    api: str
    token: Optional[str] = field(repr=False)
    ca: Optional[Path] = None
    trust: Trust = Trust.GIVEN
    pem: str = ""
    bosh: bool = False
    guessed: bool = False


@dataclass(frozen=True)
class CaptureTarget:
    """The targets of a capture: names in the api's configuration, an app, or VMs of a deployment.

    Attributes:
        name: The app's name, for display.
        follow: Whether to capture also instances that restart, move or are added later.
    """

    targets: Tuple[str, ...] = ()
    app: Optional[App] = None
    name: str = ""
    follow: bool = False
    deployment: Optional[Deployment] = None

    def describe(self) -> str:
        """The targets as one line of text."""
        if self.deployment is not None:
            text = f"deployment: {self.deployment.name}, {', '.join(self.deployment.groups)}"
            return ": ".join([text, ", ".join(self.deployment.instances)]).removesuffix(": ")
        if self.app is None:
            return f"targets: {', '.join(self.targets)}"
        text = f"app: {self.name}, {self.app.type}, {instances_text(self.app.indices)}"
        return f"{text}, followed" if self.follow else text

    def facts(self) -> Dict[str, Any]:
        """The targets as JSON values."""
        if self.deployment is not None:
            vms = self.deployment
            named = {"name": vms.name, "groups": list(vms.groups)}
            return {"deployment": {**named, "instances": list(vms.instances) or "all"}}
        if self.app is None:
            return {"targets": list(self.targets)}
        app = {"name": self.name, "guid": self.app.guid, "type": self.app.type}
        return {"app": {**app, "instances": list(self.app.indices) or "all"}, "follow": self.follow}


@dataclass(frozen=True)
class CaptureOptions:
    """The options that all capture commands share.

    Attributes:
        output: A path, ``-`` for standard output, or `NOWHERE`.
        count: Number of packets after which the capture stops.
        duration: Seconds after which the capture stops.
        max_bytes: Largest size of the file in bytes; the capture stops before it is exceeded.
        report: File for the JSON report.
        headers_only: Remove the payload of every packet.
        reason: Why, for the api's audit record.
        besides: How the api records besides; None if it does not.
        same_api: The options with which other commands find the same api with the same login, as shell words.
        list_interfaces: List the interfaces instead of capturing.
        files: Options for several files and for other outputs.
    """

    output: str
    form: Form
    filter: str = ""
    interfaces: Tuple[str, ...] = ()
    snaplen: int = SNAPLEN_DEFAULT
    count: Optional[int] = None
    duration: Optional[float] = None
    max_bytes: Optional[int] = None
    ordered: bool = True
    force: bool = False
    headers_only: bool = False
    reason: str = ""
    besides: Optional[Besides] = None
    same_api: str = ""
    report: Optional[Path] = None
    quiet: bool = False
    verbose: bool = False
    json: bool = False
    list_interfaces: bool = False
    files: FileOptions = field(default_factory=FileOptions)

    def request(self, target: CaptureTarget) -> Request:
        """The START request for these targets.

        Raises:
            UsageProblem: The request would be invalid.
        """
        try:
            return Request(
                targets=target.targets,
                app=target.app,
                deployment=target.deployment,
                follow=target.follow,
                interfaces=self.interfaces,
                filter=self.filter,
                snaplen=self.snaplen,
                headers_only=self.headers_only,
                duration=self.duration,
                reason=self.reason,
                record=self.besides,
            )
        except ValueError as error:
            raise UsageProblem(str(error)) from error


def choose_form(given: Optional[str], output: str) -> Form:
    """The file format: the given one, else that of the file's suffix, else pcapng.

    Raises:
        UsageProblem: The suffix names a compression that pcapctl does not support.
    """
    path = Path(output)
    if path.suffix.lower() in _COMPRESSED_SUFFIXES:
        raise UsageProblem(
            f"pcapctl does not write {path.suffix} files", "NAME.pcapng.gz is written with gzip"
        )
    if path.suffix == ".gz":
        path = path.with_suffix("")
    if given is not None:
        return Form[given.upper()]
    return Form.PCAP if path.suffix.lower() in _CLASSIC_SUFFIXES else Form.PCAPNG


def default_output(name: str, given: Optional[str], now: datetime.datetime) -> str:
    """``NAME-YYYYMMDDTHHMMSSZ.pcapng`` in the current directory."""
    stem = re.sub(r"[^\w.-]", "_", name)
    return f"{stem}-{now:%Y%m%dT%H%M%SZ}.{given or 'pcapng'}"


def parse_places(
    places: Sequence[str], groups: Sequence[str], instances: Sequence[str]
) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """Read instance groups and instances from ``GROUP`` and ``GROUP/ID``, or from options.

    Raises:
        UsageProblem: No group is named, or the names contradict each other.
    """
    several = [place for place in places if "/" in place]
    if several and len(several) < len(places):
        raise UsageProblem("name groups, or instances as GROUP/ID, not both", f"{several[0]} is an instance")
    if places and (groups or instances):
        raise UsageProblem("name groups and instances either as arguments or with --group and --instance")
    found = (*groups, *(place.partition("/")[0] for place in places))
    if not found:
        raise UsageProblem("no instance group is named", "for example: pcapctl bosh -d cf router")
    return tuple(dict.fromkeys(found)), (*instances, *several)


def parse_instances(given: Sequence[str]) -> Tuple[int, ...]:
    """Instance numbers from ``0,2``, ``0-2`` or ``all``; an empty tuple stands for all.

    Raises:
        UsageProblem: The text is not a list of numbers, or combines ``all`` with numbers.
    """
    parts = [part.strip() for text in given for part in text.split(",")]
    if "all" in parts:
        if set(parts) != {"all"}:
            raise UsageProblem("--instance takes either all or numbers, not both")
        return ()
    indices: Dict[int, None] = {}
    for part in parts:
        bounds = _RANGE.fullmatch(part)
        first, last = (int(bounds[1]), int(bounds[2] or bounds[1])) if bounds is not None else (1, 0)
        if not first <= last < INSTANCES_MAX:
            hint = "for example: --instance 0,2 or --instance 0-2 or --instance all"
            raise UsageProblem(f"{part!r} is not an instance", hint)
        indices.update(dict.fromkeys(range(first, last + 1)))
    return tuple(indices)


def instances_text(indices: Tuple[int, ...]) -> str:
    """Instance numbers as text, such as ``instances 0, 2`` or ``all instances``."""
    if not indices:
        return "all instances"
    return f"instance{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))}"


def read_token(token_file: Optional[Path]) -> str:
    """The user's token, from the file or from PCAP_TOKEN.

    Raises:
        UsageProblem: There is no token, or it is not valid.
    """
    if token_file is not None:
        try:
            token = token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageProblem(f"cannot read the token from {token_file}: {reason}") from error
    else:
        token = os.environ.get("PCAP_TOKEN", "").strip()
    if not token:
        raise UsageProblem("no token is given", "set PCAP_TOKEN, or name a file with --token-file")
    if not token.isascii() or not token.isprintable():
        raise UsageProblem("the token contains characters that are not allowed in a token")
    return token
