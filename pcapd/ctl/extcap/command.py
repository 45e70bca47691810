"""Carries out one of Wireshark's calls.  Wireshark shows stderr in a dialog."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Tuple

import pcapd
from pcapd.config.units import parse_duration
from pcapd.ctl.display.text import escape
from pcapd.ctl.extcap import configuration
from pcapd.ctl.extcap.calls import Call, parse
from pcapd.ctl.extcap.filtercheck import filter_problem
from pcapd.ctl.options import (
    STDOUT,
    Access,
    CaptureOptions,
    CaptureTarget,
    Trust,
    UsageProblem,
    parse_instances,
    read_token,
)
from pcapd.ctl.sinks.fileoptions import FileOptions
from pcapd.ctl.stopping import Parent
from pcapd.errors import PcapdError
from pcapd.limits import SNAPLEN_DEFAULT, SNAPLEN_MAX
from pcapd.savefile.form import Form

if TYPE_CHECKING:
    from pcapd.ctl.extcap.toolbar import Toolbar, Wireshark
    from pcapd.ctl.login.anylogin import LoginArguments

__all__ = ["PREPARE", "answer", "options_of"]

_IN_OPTIONS = "in the interface's options, behind the gear icon next to its name"
#: Seconds for Wireshark to open its end of the pipe.
_READER_TIMEOUT = 30.0
_STDOUT_FD = 1
_RECORDINGS = "pcapctl-recordings"

Prepare = Callable[[Call, CaptureOptions], Tuple[Access, CaptureTarget]]
#: Runs a prepared capture, and returns its exit status.
Run = Callable[["Wireshark", Parent], int]


def answer(arguments: Sequence[str]) -> int:
    """Carry out a call, and return the exit status.

    Raises:
        PcapdError: It failed; the message is for Wireshark's dialog.
    """
    call = parse(arguments)
    if "--extcap-interfaces" in call.flags:
        return _say(configuration.interfaces(pcapd.__version__))
    named = call.get("--extcap-interface")
    interface = configuration.INTERFACES.get(named)
    if interface is None:
        hint = f"known are: {', '.join(configuration.INTERFACES)}"
        raise UsageProblem(f"there is no interface {named!r}" if named else "no --extcap-interface", hint)
    if "--extcap-dlts" in call.flags:
        return _say(configuration.link_types())
    if "--extcap-config" in call.flags:
        option = call.get("--extcap-reload-option")
        return _say(_reload(interface, option, call) if option else configuration.arguments_of(interface))
    if "--capture" in call.flags:
        return _capture(interface, call)
    if "--extcap-cleanup-postkill" in call.flags:
        return 0
    if "--extcap-capture-filter" in call.values:
        # Any output here makes the filter's field red.
        problem = filter_problem(call.values["--extcap-capture-filter"])
        return _say([problem] if problem else [])
    raise UsageProblem("no extcap action is requested", "see: pcapctl extcap --help")


def _say(lines: List[str]) -> int:
    for line in lines:
        print(line)
    return 0


def _reload(interface: configuration.Interface, option: str, call: Call) -> List[str]:
    known = {one.call.lstrip("-") for one in interface.arguments if one.reload}
    if option.lstrip("-") not in known:
        return []
    # ssl and HTTP take most of the start-up time: the other calls do not need them.
    from pcapd.ctl.extcap.choices import apps, choices, recordings

    def look_up() -> List[configuration.Choice]:
        return recordings(_login(call)) if interface.value == _RECORDINGS else apps(_ca(call))

    return configuration.choices_of(interface, f"--{option.lstrip('-')}", choices(look_up))


def _login(call: Call) -> LoginArguments:
    from pcapd.ctl.login.anylogin import LoginArguments

    token_file = call.get("--token-file")
    return LoginArguments(
        _api(call),
        _ca(call),
        token_file=Path(token_file).expanduser() if token_file else None,
        environment=call.get("--environment") or None,
    )


def _capture(interface: configuration.Interface, call: Call) -> int:
    parent = Parent("Wireshark")
    # ssl and wsproto take most of the start-up time: the other calls do not need them.
    from pcapd.ctl.extcap.toolbar import Toolbar

    # First of all: Wireshark's window blocks until we have opened the toolbar's pipe.
    toolbar = Toolbar(call.get("--extcap-control-in"), call.get("--extcap-control-out"))
    try:
        return _captured(interface, call, parent, toolbar)
    except PcapdError as error:
        toolbar.log(escape(str(error)))
        raise
    finally:
        # A window that opens the pipe after we have exited would block for ever.
        toolbar.await_window(parent)


def _captured(interface: configuration.Interface, call: Call, parent: Parent, toolbar: Toolbar) -> int:
    from pcapd.ctl.extcap.toolbar import Wireshark, has_reader

    fifo = call.get("--fifo")
    if not fifo:
        raise UsageProblem("--fifo is missing")
    # Before anything can fail: dumpcap waits for ever for a pipe that was never opened.
    _write_to(fifo, parent)
    run = _prepared(interface, call)
    try:
        return run(Wireshark(_STDOUT_FD, toolbar), parent)
    except PcapdError:
        if has_reader(_STDOUT_FD):
            raise
        return 0


def _prepared(interface: configuration.Interface, call: Call) -> Run:
    """What is run when everything is checked."""
    if interface.value == _RECORDINGS:
        return _replay(call)
    options = options_of(call)
    return _over_ssh(call, options) if interface.value == "pcapctl-ssh" else _by_api(interface, call, options)


def _replay(call: Call) -> Run:
    """Prepare the fetch of a recording."""
    from pcapd.ctl.extcap.replay import replay
    from pcapd.ctl.login.anylogin import AnyLogin
    from pcapd.ctl.recordings.saving import FetchOptions

    id = call.get("--recording")
    if not id:
        raise UsageProblem("no recording is chosen", f"choose one {_IN_OPTIONS}")
    if call.get("--extcap-capture-filter"):
        raise UsageProblem(
            "a recording has its own filter", "remove the capture filter, or use a display filter"
        )
    tail = _truth(call.get("--tail", "false"), "--tail")
    options = FetchOptions(last=_duration(call.get("--last")), output=STDOUT, tail=tail)
    login = AnyLogin(_login(call), lambda _: None)
    return lambda frontend, parent: replay(login.access, id, options, frontend, parent)


def _by_api(interface: configuration.Interface, call: Call, options: CaptureOptions) -> Run:
    """Prepare a capture through an api."""
    from pcapd.ctl.run import run
    from pcapd.ctl.stream.connection import Connection

    access, target = PREPARE[interface.value](call, options)
    return lambda frontend, parent: run(lambda: Connection(access), options, target, frontend, parent)


def _over_ssh(call: Call, options: CaptureOptions) -> Run:
    """Prepare a capture over ssh, which never asks for a password: Wireshark has no terminal."""
    from pcapd.ctl.ssh.farside import check_filter
    from pcapd.ctl.ssh.hosts import SshOptions, openssh
    from pcapd.ctl.ssh.running import capture

    names = tuple(dict.fromkeys(split_list(call.get("--hosts"))))
    if not names:
        raise UsageProblem("no hosts are named", f"name them {_IN_OPTIONS}")
    check_filter(options.filter)
    try:
        how = SshOptions(options=tuple(shlex.split(call.get("--ssh-options"))))
    except ValueError as error:
        raise UsageProblem(f"options of ssh: {error}") from error
    hosts = [dataclasses.replace(openssh(name, how), asking=()) for name in names]
    include = _truth(call.get("--include-ssh", "false"), "--include-ssh")
    target = CaptureTarget(names)
    return lambda frontend, parent: capture(
        hosts, options, target, include_ssh=include, frontend=frontend, parent=parent
    )


def options_of(call: Call) -> CaptureOptions:
    """The options of the capture.

    Raises:
        UsageProblem: A value is not valid.
    """
    return CaptureOptions(
        output=STDOUT,
        form=Form.PCAPNG,
        filter=_filter(call),
        interfaces=tuple(split_list(call.get("--device"))),
        snaplen=_snaplen(call.get("--snaplen")),
        headers_only=_truth(call.get("--headers-only", "false"), "--headers-only"),
        reason=call.get("--reason", os.environ.get("PCAP_REASON", "")),
        duration=_duration(call.get("--duration")),
        ordered=_truth(call.get("--order", "true"), "--order"),
        quiet=True,
        verbose=True,
        files=FileOptions(
            explain=_truth(call.get("--explain", "false"), "--explain"),
            contents=_truth(call.get("--show-contents", "false"), "--show-contents"),
        ),
    )


def split_list(text: str) -> List[str]:
    """The items of a list that is separated by commas, spaces, or both."""
    return [item for item in re.split(r"[,\s]+", text) if item]


def _filter(call: Call) -> str:
    given = [call.get(name) for name in ("--extcap-capture-filter", "--filter")]
    filters = [text for text in given if text]
    for text in filters:
        problem = filter_problem(text)
        if problem:
            raise UsageProblem(f"capture filter: {problem}")
    return filters[0] if len(filters) == 1 else " and ".join(f"({text})" for text in filters)


def _snaplen(text: str) -> int:
    if not text:
        return SNAPLEN_DEFAULT
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= SNAPLEN_MAX:
        raise UsageProblem(f"{text!r} is not a number of bytes from 1 to {SNAPLEN_MAX}")
    return int(text)


def _duration(text: str) -> Optional[float]:
    if not text:
        return None
    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise UsageProblem(f"{text!r} {error}") from error
    if duration <= 0:
        raise UsageProblem(f"the duration {text!r} must be more than 0")
    return duration


def _truth(text: str, name: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise UsageProblem(f"{name} must be true or false, not {text!r}")


def _api(call: Call) -> Optional[str]:
    return call.get("--api", os.environ.get("PCAP_API", "")) or None


def _ca(call: Call) -> Optional[Path]:
    named = call.get("--ca")
    return Path(named).expanduser() if named else None


def _needed_api(call: Call) -> str:
    api = _api(call)
    if api is None:
        raise UsageProblem("no api is given", "name its URL in the interface's options, or set PCAP_API")
    return api


def _cf(call: Call, options: CaptureOptions) -> Tuple[Access, CaptureTarget]:
    from pcapd.ctl.login.cf import CfArguments, prepare

    app = call.get("--app")
    if not app:
        raise UsageProblem("no app is chosen", f"choose one {_IN_OPTIONS}")
    instances = parse_instances(split_list(call.get("--instances")))
    asked = CfArguments(
        app,
        instances,
        call.get("--type", "web"),
        _truth(call.get("--follow", "false"), "--follow"),
        _api(call),
        _ca(call),
        Trust.ALSO_GIVEN,
    )
    return prepare(asked, options)


def _bosh(call: Call, options: CaptureOptions) -> Tuple[Access, CaptureTarget]:
    from pcapd.ctl.login.bosh import BoshArguments, prepare

    deployment = call.get("--deployment", os.environ.get("BOSH_DEPLOYMENT", ""))
    groups = tuple(split_list(call.get("--groups")))
    if not deployment or not groups:
        missing = "instance group" if deployment else "deployment"
        raise UsageProblem(f"no {missing} is named", f"name it {_IN_OPTIONS}")
    instances = tuple(split_list(call.get("--instances")))
    asked = BoshArguments(
        deployment,
        groups,
        () if instances == ("all",) else instances,
        call.get("--environment") or None,
        _needed_api(call),
        _ca(call),
        _truth(call.get("--yes", "false"), "--yes"),
    )
    return prepare(asked, options)


def _hosts(call: Call, options: CaptureOptions) -> Tuple[Access, CaptureTarget]:
    targets = tuple(split_list(call.get("--targets")))
    if not targets:
        raise UsageProblem("no targets are named", f"name them {_IN_OPTIONS}")
    target = CaptureTarget(targets)
    options.request(target)
    token_file = call.get("--token-file")
    token = read_token(Path(token_file).expanduser() if token_file else None)
    return Access(_needed_api(call), token, _ca(call)), target


#: How to prepare the capture of each interface that needs an api.
PREPARE: Dict[str, Prepare] = {"pcapctl-cf": _cf, "pcapctl-bosh": _bosh, "pcapctl-hosts": _hosts}


def _write_to(fifo: str, parent: Parent) -> None:
    """Make the pipe our standard output once it has a reader; without one, opening it would block.

    Raises:
        PcapdError: The pipe cannot be written.
    """
    until = time.monotonic() + _READER_TIMEOUT
    while True:
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() >= until or parent.look():
                reason = "it has no reader" if error.errno == errno.ENXIO else error.strerror
                raise PcapdError(f"cannot write to {fifo}: {reason}") from error
        time.sleep(0.02)
    sys.stdout.flush()
    os.set_blocking(fd, True)
    os.dup2(fd, _STDOUT_FD)
    os.close(fd)
