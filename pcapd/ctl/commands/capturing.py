"""Runs a capture from click's options to the exit status."""

from __future__ import annotations

import datetime
import shlex
import sys
from typing import TYPE_CHECKING, Any, Optional

import click

from pcapd.ctl.commands.besides import besides_of
from pcapd.ctl.display.messages import Messages
from pcapd.ctl.options import (
    NOWHERE,
    Access,
    CaptureOptions,
    CaptureTarget,
    Trust,
    UsageProblem,
    choose_form,
    default_output,
)
from pcapd.ctl.sinks.fileoptions import FileOptions

if TYPE_CHECKING:
    from pcapd.ctl.login.anylogin import AnyLogin

__all__ = [
    "access_of",
    "capture_options_of",
    "login_of",
    "run_capture",
    "same_api",
    "trust_of",
]


def access_of(given: Any, token: Optional[str]) -> Access:
    """How to reach the api, from the options by name.

    Raises:
        UsageProblem: No api is given, or the options exclude each other.
    """
    if not given["api"]:
        raise UsageProblem("no api is given", "set PCAP_API, or name its URL with --api")
    return Access(given["api"], token, given["ca"], trust_of(given, Trust.GIVEN))


def login_of(given: Any) -> AnyLogin:
    """The login that the options choose; it is named on a terminal.

    Args:
        given: The values of `pcapd.ctl.commands.arguments.login_options`, by name.

    Raises:
        PcapdError: There is no login, or no api is known.
    """
    # ssl and HTTP take most of the start-up: --help does without.
    from pcapd.ctl.login.anylogin import AnyLogin, LoginArguments

    insecure = trust_of(given, Trust.GIVEN) is Trust.ANYBODY
    messages = Messages(json=given["json"])
    asked = LoginArguments(
        given["api"], given["ca"], insecure, given["login"], given["token_file"], given["environment"]
    )
    login = AnyLogin(asked, messages.warn)
    if not given["json"] and sys.stderr.isatty():
        print(login.about, file=sys.stderr, flush=True)
    return login


def trust_of(given: Any, checked: Trust) -> Trust:
    """`checked`, or with --insecure, after a warning, `Trust.ANYBODY`."""
    if not given["insecure"]:
        return checked
    if given["ca"]:
        raise UsageProblem("--insecure and --ca exclude each other", "with --ca certificates are checked")
    Messages(json=given["json"]).warn(
        "certificates are not checked (--insecure): an attacker on the network path could steal your "
        "login and read the packets"
    )
    return Trust.ANYBODY


def same_api(given: Any, way: str) -> str:
    """The options with which other commands find the same api with the same login, as shell words.

    Args:
        given: The options by name.
        way: ``bosh`` for a BOSH login, whose director is the value of ``environment``.
    """
    context = click.get_current_context()
    words = []
    for name, option in (("api", "--api"), ("ca", "--ca"), ("token_file", "--token-file")):
        source = context.get_parameter_source(name)
        if given.get(name) is not None and source is not None and source.name == "COMMANDLINE":
            words += [option, str(given[name])]
    if given["insecure"]:
        words.append("--insecure")
    if way == "bosh":
        words += ["--login", "bosh", *(["-e", given["environment"]] if given["environment"] else [])]
    return "".join(f" {shlex.quote(word)}" for word in words)


def capture_options_of(name: str, given: Any, way: str = "") -> CaptureOptions:
    """The capture options from the options by name.

    Args:
        name: Name of the target, for the default file name.
        way: As for `same_api`.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    files, besides = FileOptions.of(given), besides_of(given)
    nothing_given = NOWHERE if files.elsewhere else default_output(name, given["form"], now)
    output = given["output"] or nothing_given
    return CaptureOptions(
        output=output,
        form=choose_form(given["form"], output),
        filter=given["filter"],
        interfaces=given["devices"],
        snaplen=given["snaplen"],
        headers_only=given["headers_only"],
        reason=given["reason"],
        besides=besides,
        same_api=same_api(given, way) if besides is not None else "",
        count=given["count"],
        duration=_duration(given),
        max_bytes=given["max_bytes"],
        ordered=given["order"],
        force=given["force"],
        report=given["report"],
        quiet=given["quiet"],
        verbose=given["verbose"],
        json=given["json"],
        list_interfaces=given["list_interfaces"],
        files=files,
    )


def _duration(given: Any) -> Optional[float]:
    """Seconds; as in tcpdump, ``-G 60 -W 5`` ends after five files."""
    time, wanted = given["rotate_time"], given["files_wanted"]
    by_size = given["rotate_size"] or given["rotate_megabytes"]
    full = time * wanted if time and wanted and not by_size else None
    return min(filter(None, (given["duration"], full)), default=None)


def run_capture(access: Access, options: CaptureOptions, target: CaptureTarget, parent: Any = None) -> int:
    """Capture, and return the exit status."""
    # ssl and wsproto take most of the start-up: --help does without.
    from pcapd.ctl.run import run
    from pcapd.ctl.stream.connection import Connection

    def dial() -> Connection:
        return Connection(access)

    if options.list_interfaces:
        from pcapd.ctl.display.interfaces import InterfaceList, listing_options

        lister = InterfaceList(json=options.json)
        return run(dial, listing_options(options), target, lister, parent)
    return run(dial, options, target, parent=parent)
