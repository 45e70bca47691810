"""``cf ssh`` as a program, with the ssh proxy and the container's diego-sshd behind it.

Follows the cf CLI's command/v7/ssh_command.go and diego-ssh's session_channel_handler.go.  The
command line is run by the container's shell, in a session of its own, without a terminal and
with few variables.  Its stdin, stdout and stderr are passed on in pieces, and its exit status is
the program's.  When the program is killed, the command gets no signal: its stdin ends.

``STANDIN_SSH`` names a JSON file: ``refuse``, whether the ssh proxy refuses the user; ``places``,
for each app, process type and index, the words that run a command in the container; ``environment``,
variables of diego-sshd; ``calls``, a file to which the arguments are appended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

#: diego-sshd looks for these shells, in this order (shell_locator.go).
SHELLS = ("/bin/bash", "/usr/local/bin/bash", "/bin/sh")


def fail(message: str) -> NoReturn:
    """How the cf CLI fails: the reason on stderr, and a word on stdout."""
    print(message, file=sys.stderr)
    print("FAILED")
    sys.exit(1)


def parse() -> argparse.Namespace:
    """The options of ``cf ssh``."""
    parser = argparse.ArgumentParser(prog="cf ssh", allow_abbrev=False)
    parser.add_argument("app")
    parser.add_argument("--app-instance-index", "-i", dest="index", type=int, default=0)
    parser.add_argument("--process", default="web")
    parser.add_argument("--command", "-c", action="append", required=True)
    parser.add_argument("--disable-pseudo-tty", "-T", dest="plain", action="store_true", required=True)
    return parser.parse_args()


def place_of(state: dict[str, Any], asked: argparse.Namespace) -> list[str]:
    """The words that run a command in the container."""
    types = state["places"].get(asked.app)
    if types is None:
        fail(f"App '{asked.app}' not found.")
    if asked.process not in types:
        fail(f"Process {asked.process} not found")
    place = types[asked.process].get(str(asked.index))
    if place is None:
        fail(f"Instance {asked.index} of process {asked.process} not found")
    if state["refuse"]:
        fail("Error opening SSH connection: You are not authorized to perform the requested action.")
    found: list[str] = place
    return found


def copy(source: int, target: Any) -> None:
    """Pass on what comes until its end, or until nobody takes it."""
    try:
        while data := os.read(source, 32768):
            target.write(data)
            target.flush()
    except OSError:
        pass
    finally:
        target.close()


def main() -> int:
    """Run the command, and return its exit status."""
    state = json.loads(Path(os.environ["STANDIN_SSH"]).read_text())
    with Path(state["calls"]).open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    asked = parse()
    shell = next(path for path in SHELLS if Path(path).exists())
    remote = subprocess.Popen(
        [*place_of(state, asked), shell, "-c", " ".join(asked.command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": "/bin:/usr/bin", "LANG": "en_US.UTF8", "HOME": "/", **state["environment"]},
        bufsize=0,
        start_new_session=True,
    )
    assert remote.stdout is not None and remote.stderr is not None
    threading.Thread(target=copy, args=(0, remote.stdin), daemon=True).start()
    ends = [
        threading.Thread(target=copy, args=(remote.stdout.fileno(), sys.stdout.buffer)),
        threading.Thread(target=copy, args=(remote.stderr.fileno(), sys.stderr.buffer)),
    ]
    for end in ends:
        end.start()
    for end in ends:  # as Go's Wait does: until nobody holds the pipes any more
        end.join()
    status = remote.wait()
    return status if status >= 0 else 255


if __name__ == "__main__":
    os._exit(main())
