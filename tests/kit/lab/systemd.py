"""A real systemd that runs our units, in namespaces of its own: nothing of this machine is changed.

Its /etc, /opt, /run and /var/log are copies or empty, and it knows no units but those that a test
installs and the targets that these need.  The network is the machine's.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

import pytest

from demo.processes import ROOT, run, wait_until

__all__ = ["Systemd", "units"]

PROGRAM = Path("/lib/systemd/systemd")

#: Where its units are.
UNITS = "/run/lab-units"

#: What our units need of others, directly or by default.
TARGETS = ("basic", "multi-user", "network-online", "shutdown", "sysinit", "lab")

#: The argument is the directory with what replaces this machine's.
BEGIN = """
set -e
mount --make-rprivate /
mount --bind "$1/etc" /etc
mount --bind "$1/opt" /opt
{mounts}
mount --rbind /run/netns "$1/run/netns"
mount --rbind "$1/run" /run
mount --bind "$1/log" /var/log
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=pcapd SYSTEMD_UNIT_PATH=/etc/systemd/system:{units} PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    {program} --system --unit=lab.target --log-target=console
"""

#: What PCAPD below needs.
MOUNTS = f"""
mount --bind {shlex.quote(str(sys.prefix))} /opt/pcapd/environment
mount --bind {shlex.quote(str(sys.base_prefix))} /opt/pcapd/python
"""

#: Python and its packages by other paths, because a service sees no homes, in which they may be.
PCAPD = """#!/bin/sh
export PYTHONHOME=/opt/pcapd/python LD_LIBRARY_PATH=/opt/pcapd/python/lib PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=/opt/pcapd/source:/opt/pcapd/environment/{packages}
exec /opt/pcapd/python/bin/python{version.major}.{version.minor} -m pcapd "$@"
"""


_serial = itertools.count()


def units() -> Path:
    """Our units, which the documentation says to install."""
    return ROOT / "etc" / "systemd"


class Systemd:
    """See the module.  It is ready on entering the context; needs root.

    Args:
        directory: An empty directory.

    Attributes:
        etc: Becomes its /etc, a copy of this machine's, without units.
    """

    #: What is mounted besides, as commands.
    mounts = MOUNTS
    #: What runs systemd, and all commands inside.
    prefix: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.etc = directory / "etc"
        self._units = directory / f"run{UNITS[4:]}"
        self._process: Optional[subprocess.Popen[Any]] = None
        self._group: Optional[Path] = None

    def __enter__(self) -> Systemd:
        if not PROGRAM.exists():
            pytest.skip("systemd is not installed")
        self._lay_out()
        self._group = _new_group()
        join = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'
        # It ends with the tests, however they end.
        argv = [*self.prefix, "setpriv", "--pdeathsig=KILL", "sh", "-c", join, "sh", str(self._group)]
        argv += ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--kill-child"]
        begin = BEGIN.format(mounts=self.mounts, units=UNITS, program=PROGRAM)
        argv += ["bash", "-c", begin, "bash", str(self._directory)]
        with (self._directory / "systemd.log").open("wb") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(self._ready, "systemd has started", timeout=30)
        except BaseException:
            sys.stderr.write((self._directory / "systemd.log").read_text(errors="replace"))
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._process is not None:
            # --kill-child: the first process of the namespace ends too, and takes all others with it.
            self._process.kill()
            self._process.wait()
        if self._group is not None:
            wait_until(lambda: _removed(self._group), "the control groups are removed")

    def _lay_out(self) -> None:
        for name in ("opt", "run/netns", "log"):
            (self._directory / name).mkdir(parents=True)
        self._units.mkdir()
        Path("/run/netns").mkdir(exist_ok=True)
        shutil.copytree("/etc", self.etc, symlinks=True)
        shutil.rmtree(self.etc / "systemd" / "system", ignore_errors=True)
        (self.etc / "systemd" / "system").mkdir(parents=True)
        for target in TARGETS:
            text = "[Unit]\nDefaultDependencies=no\n"
            (self._units / f"{target}.target").write_text(text)
        self._install_program()

    def _install_program(self) -> None:
        for name in ("bin", "source", "environment", "python"):
            (self._directory / "opt" / "pcapd" / name).mkdir(parents=True)
        # A copy, because only the user who made the checkout may be able to read it.
        source = self._directory / "opt/pcapd/source"
        shutil.copytree(ROOT / "pcapd", source / "pcapd", ignore=shutil.ignore_patterns("__pycache__"))
        run(["chmod", "-R", "go+rX", str(source)])
        program = self._directory / "opt/pcapd/bin/pcapd"
        packages = Path(sysconfig.get_path("purelib"))
        program.write_text(PCAPD.format(packages=packages.relative_to(sys.prefix), version=sys.version_info))
        program.chmod(0o755)

    def install(self, unit: str, *drop_ins: Path, text: str = "") -> None:
        """Install a unit of ours.

        Args:
            drop_ins: Files for the directory beside it.
            text: One more of these, of the test's own.
        """
        units_there = self._units
        shutil.copy(units() / unit, units_there)
        beside = units_there / f"{unit}.d"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for file in drop_ins:
            shutil.copy(file, beside)
        log = f"[Service]\nStandardError=append:/var/log/{unit}.log\n"
        (beside / "lab.conf").write_text(log + text)
        self.control("daemon-reload")

    def log(self, unit: str) -> str:
        """What a unit has written to standard error."""
        path = self._directory / "log" / f"{unit}.log"
        return path.read_text() if path.exists() else ""

    def read(self, path: str) -> str:
        """The text of a file that it sees."""
        return run([*self._inside(), "cat", path]).stdout

    def add_user(self, name: str) -> None:
        """Make a user of the system."""
        run([*self._inside(), "useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", name])

    def user_id(self, name: str) -> str:
        """A user's and its group's number, as for chown."""
        numbers = (run([*self._inside(), "id", option, name]).stdout.strip() for option in ("-u", "-g"))
        return ":".join(numbers)

    def control(self, *arguments: str) -> str:
        """Run systemctl."""
        return run([*self._inside(), "systemctl", "--no-pager", *arguments]).stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.control("show", "--value", "--property", name, unit).strip()

    def main_process(self, unit: str) -> int:
        """The id of a unit's main process, on this machine."""
        inside = self.show(unit, "MainPID")
        for path in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = path.read_text()
                if any(line.split()[-1] == inside and len(line.split()) > 2
                       for line in text.splitlines() if line.startswith("NSpid:")):  # fmt: skip
                    return int(path.parent.name)
        raise AssertionError(f"{unit} has no process:\n{self.log(unit)}")

    @property
    def pid(self) -> int:
        """The id of systemd's process, on this machine."""
        assert self._process is not None
        # Of unshare, which waits for it.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def _inside(self) -> list[str]:
        return [
            *self.prefix,
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--cgroup",
        ]

    def _begun(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return bool(children) and Path(f"/proc/{children.split()[0]}/exe").resolve().name == "systemd"

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "systemd has ended"
        if not self._begun():
            return False
        done = subprocess.run(
            [*self._inside(), "systemctl", "is-active", "lab.target"], capture_output=True, check=False
        )
        return done.returncode == 0


def _new_group() -> Path:
    """Make a control group in which systemd makes its own."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            group = Path(where) / f"pcapd-lab-{os.getpid()}-{next(_serial)}"
            group.mkdir()
            return group
    pytest.skip("there is no cgroup2 on this machine")


def _removed(group: Optional[Path]) -> bool:
    assert group is not None
    try:
        for directory, _, _ in os.walk(group, topdown=False):
            Path(directory).rmdir()
    except OSError:  # its last process is ending
        return False
    return True
