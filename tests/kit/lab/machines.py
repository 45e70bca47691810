"""Fresh machines, each with its own network and systemd, on which a person installs pcapd.

/etc is a copy of this machine's, and /opt, /run and /var/log are empty; root's home is a directory
of the lab.  Programs and libraries are this machine's.  ``apt-get`` only checks that its packages have
names, and ``scp`` copies to the home on another machine.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from demo.namespaces import Namespace
from tests.kit.lab.systemd import Systemd

__all__ = ["Machine", "tools"]

#: Seconds that a step may take: pip installs thirty packages.
PATIENCE = 300

APT_GET = """#!/bin/sh
case "$1 $2" in
    "update "|"install --yes") exit 0 ;;
    *) echo "apt-get $* is not what the lab expects" >&2; exit 2 ;;
esac
"""

#: scp [-r] SOURCE... root@ADDRESS:
SCP = """#!/bin/bash
set -e
[ "$1" = -r ] && shift
to=${{!#}}
[[ $to =~ ^root@([0-9.]+):$ ]]
cp -r "${{@:1:$#-1}}" "{lab}/${{BASH_REMATCH[1]}}/home/"
"""


def tools(lab: Path) -> Path:
    """Make the directory with the programs that stand for those that need other machines.

    Args:
        lab: The directory with one directory for each machine, named by its address.
    """
    directory = lab / "tools"
    directory.mkdir()
    for name, text in (("apt-get", APT_GET), ("scp", SCP.format(lab=lab))):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return directory


class Machine(Systemd):
    """See the module.

    Args:
        lab: Has the directory of `tools`, and gets one for the machine.
        host: Its network.
        address: By which the others reach it.
    """

    mounts = ""

    def __init__(self, lab: Path, host: Namespace, address: str) -> None:
        directory = lab / address
        directory.mkdir()
        super().__init__(directory)
        self.home = directory / "home"
        self.home.mkdir()
        self.prefix = ("nsenter", f"--net={host.path}")
        self._path = f"{lab}/tools:/usr/sbin:/usr/bin:/sbin:/bin"
        self._environment = ["env", "-i", f"HOME={self.home}", f"PATH={self._path}", "LANG=C.UTF-8"]

    def _install_program(self) -> None:
        """Leave /opt empty."""

    def type(self, script: str) -> str:
        """Run lines in a new shell of root, until one fails; returns what they print.

        Raises:
            AssertionError: A line failed.
        """
        shell = [*self._environment, "bash", "-ec", 'cd "$HOME"; ' + script]
        # Background commands keep the pipe open only until they end.
        done = subprocess.run(
            [*self._inside(), *shell],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def wait_for_log(self, unit: str, words: str) -> None:
        """Wait until a unit's journal, here a file, contains these words."""
        until = time.monotonic() + 60
        while words not in self.log(unit):
            assert time.monotonic() < until, f"{unit} did not log {words!r}:\n{self.log(unit)}"
            time.sleep(0.1)

    def keep_log_of(self, unit: str) -> None:
        """Let a unit that somebody will install log to a file, because there is no journal."""
        beside = self._units / f"{unit}.d"
        beside.mkdir()
        (beside / "lab.conf").write_text(f"[Service]\nStandardError=append:/var/log/{unit}.log\n")
