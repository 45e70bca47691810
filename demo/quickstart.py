"""The whole chain on one machine, with real packets, in ten seconds.

``bin/quickstart [FILE]`` runs this as root, with two hosts and HTTP traffic between
them, an agent and an api as separate processes, and pcapctl, which captures on
both hosts into one file.  Only FILE and its page remain.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn, Optional, Sequence

from demo.daemons import Daemon, Lab
from demo.namespaces import DIRECTORY
from demo.processes import CommandFailed
from demo.traffic import HttpTraffic

HOSTS = ("web-0", "web-1")
DURATION = "5s"
DEFAULT_FILE = "quickstart.pcapng"

#: Lines of a daemon's log that are shown after a failure.
LOG_LINES = 20


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration and return pcapctl's exit status."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: bin/quickstart [FILE]", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("quickstart: network namespaces need root: use bin/quickstart, or sudo", file=sys.stderr)
        return 1
    file = Path(arguments[0] if arguments else DEFAULT_FILE).absolute()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        return _run(file)
    except (CommandFailed, OSError) as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1


def _run(file: Path) -> int:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pcapd-quickstart-")))
        lab = Lab(directory, names=_names())
        stack.callback(lab.close)
        try:
            _build(lab, stack)
            status = _capture(lab, file)
        except CommandFailed:
            _show_logs(lab)
            raise
        finally:
            _ignore_signals()
        if status == 1:
            _show_logs(lab)
    _hand_over(file)
    if status in (0, 3):
        _present(file)
    return status


def _names() -> Optional[Sequence[str]]:
    """Choose the namespaces' names: those of the targets, unless they already exist."""
    if any((DIRECTORY / name).exists() for name in HOSTS):
        print("(Namespace web-0 or web-1 already exists and is not changed; quickstart uses other names.)")
        return None
    return HOSTS


def _build(lab: Lab, stack: contextlib.ExitStack) -> None:
    _step(1, "Creating two hosts, web-0 and web-1: network namespaces with a link between them.")
    try:
        lab.connect_hosts()
    except CommandFailed as error:
        raise CommandFailed(f"{error}\nIn a container, quickstart works only if it is privileged.") from error
    _step(2, "Starting HTTP traffic: web-0 requests a web page from web-1 twenty times a second.")
    stack.enter_context(HttpTraffic(lab.link.left, lab.link.right))
    _step(3, "Starting an agent and the api as separate processes, with new certificates.")
    lab.start_daemons()
    print(f"   agent: process {lab.agent.pid}, port {lab.agent.port}")
    print(f"   api:   process {lab.api.pid}, {lab.url}")


def _capture(lab: Lab, file: Path) -> int:
    arguments = ("hosts", *HOSTS, "--duration", DURATION, "--dedupe", "--output", str(file), "--force")
    _step(4, f"Capturing on both hosts for {DURATION}:")
    print(f"   pcapctl {' '.join(arguments)}\n", flush=True)
    # The terminal sends a Ctrl-C to pcapctl too, which then ends its capture
    # cleanly.  The handler is a function, because pcapctl would inherit SIG_IGN.
    interrupt = signal.signal(signal.SIGINT, lambda *_: None)
    client = lab.start_pcapctl(*arguments)
    status = client.wait()
    signal.signal(signal.SIGINT, interrupt)
    print()
    return status if status >= 0 else 128 - status


def _present(file: Path) -> None:
    _step(5, f"{file} contains the packets of both hosts in time order, each with its origin.")
    if shutil.which("capinfos"):
        summary = subprocess.run(
            ["capinfos", "-t", "-c", "-u", "-o", str(file)], capture_output=True, text=True, check=False
        ).stdout
        print("".join(f"   {line}\n" for line in summary.splitlines()[1:] if line), end="")
    print(f"   Open it with:  wireshark {file}\n             or:  tshark -r {file}")
    _explain(file)


def _explain(file: Path) -> None:
    page = file.with_suffix(".html")
    _step(6, f"Explaining what went wrong (nothing in a healthy capture), also as the page {page}:")
    print(f"   pcapctl explain {file} --html {page}\n", flush=True)
    pcapctl = Path(sys.executable).with_name("pcapctl")
    done = subprocess.run(
        [str(pcapctl), "explain", str(file), "--html", str(page)], capture_output=True, text=True, check=False
    )
    print("".join(f"   {line}\n" for line in (done.stdout + done.stderr).splitlines()), end="")
    _hand_over(page)


def _show_logs(lab: Lab) -> None:
    for daemon in (lab.agent, lab.api):
        _show_log(daemon)


def _show_log(daemon: Daemon) -> None:
    if daemon.log_path.exists():
        print(f"--- the end of the {daemon.role}'s log", file=sys.stderr)
        print(*daemon.log().splitlines()[-LOG_LINES:], sep="\n", file=sys.stderr)


def _hand_over(file: Path) -> None:
    """Make the user who called sudo the file's owner."""
    if "SUDO_UID" in os.environ and file.is_file():
        os.chown(file, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1")))


def _step(number: int, text: str) -> None:
    print(f"{number}. {text}", flush=True)


def _ignore_signals() -> None:
    """Ignore signals during cleanup, here and in the commands that it runs."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: Optional[FrameType]) -> NoReturn:
    """Exit with an exception, so that every ``with`` block cleans up."""
    _ignore_signals()
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
