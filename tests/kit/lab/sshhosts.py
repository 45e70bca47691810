"""Hosts with a real ssh server, each in a network and a mount namespace of its own, and a user at a desk.

::

    desk ── eth0 ── web-0 ── eth9 ── web-1 ── eth1 ── desk

The desk has an ssh configuration with the names of the hosts.  Each host has its own accounts and
sudoers, so nothing of this machine changes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from demo.namespaces import Link, Namespace, connect
from demo.processes import wait_until
from tests.kit.imports import ROOT

__all__ = ["Desk", "SshHost", "ssh_hosts"]

#: A user who may capture only as `SshHost.sudoers` permits.
USER = "alice"

_ACCOUNTS = f"""root:x:0:0:root:/root:/bin/sh
sshd:x:104:65534::/run/sshd:/usr/sbin/nologin
tcpdump:x:105:107::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
{USER}:x:1000:1000:Alice:/tmp:/bin/sh
"""
_GROUPS = "root:x:0:\ntcpdump:x:107:\nnogroup:x:65534:\nusers:x:1000:\n"
_SHADOW = "root:*:19000:0:99999:7:::\n{user}:{password}:19000:0:99999:7:::\n"
#: Puts the files of a directory in place of the system's, and runs the server.
_SERVE = """
set -e
mount --make-rprivate /
for name in passwd group shadow sudoers; do mount --bind "$0/$name" "/etc/$name"; done
for path in "$0"/hidden/*; do
    [ -e "$path" ] || continue
    mount --bind /dev/null "$(cat "$path")"
done
for path in "$0"/replaced/*; do
    [ -e "$path" ] && mount --bind "$path" "/usr/bin/${path##*/}"
done
mount -t tmpfs tmpfs /run
mkdir /run/sshd /run/keys
mount --bind "$0/keys" /run/keys
install -m 644 "$0/authorized_keys" /run/authorized_keys
exec "$@"
"""


@dataclass
class SshHost:
    """One host.

    Attributes:
        name: Its name in the ssh configuration.
        directory: Its files.
        sudoers: What sudo permits there; empty for nothing.
        hidden: Programs that are not installed there.
        ahead: Seconds by which its clock is ahead.
        shell: Login shell of `USER`.
        options: Options of the server, which take precedence.
        password: Password of `USER`; empty for none.
    """

    name: str
    namespace: Namespace
    address: str
    directory: Path
    sudoers: str = ""
    hidden: Sequence[str] = ()
    ahead: float = 0.0
    shell: str = "/bin/sh"
    options: Sequence[str] = ("MaxStartups=100",)
    password: str = ""
    server: Any = field(default=None, repr=False)

    def serve(self, authorized: Path) -> None:
        """Start the ssh server, or start it again with other settings."""
        self.stop()
        accounts = _ACCOUNTS.replace("/tmp:/bin/sh", f"/tmp:{self.shell}")
        files = {
            "passwd": accounts,
            "group": _GROUPS,
            "shadow": _SHADOW.format(user=USER, password=_hashed(self.password)),
        }
        files["sudoers"] = f"Defaults !syslog\n{self.sudoers}\n"
        self.directory.mkdir(exist_ok=True)
        for name, text in files.items():
            path = self.directory / name
            path.unlink(missing_ok=True)
            path.write_text(text)
            path.chmod(0o440 if name in ("shadow", "sudoers") else 0o644)
        hidden = self.directory / "hidden"
        hidden.mkdir(exist_ok=True)
        for old in hidden.iterdir():
            old.unlink()
        for number, path_text in enumerate(self.hidden):
            (hidden / str(number)).write_text(path_text)
        (self.directory / "authorized_keys").write_bytes(authorized.read_bytes())
        self._set_clock()
        keys = self.directory / "keys"
        keys.mkdir(exist_ok=True)
        for old in keys.iterdir():
            old.unlink()
        options = [*self.options, "AuthorizedKeysFile=/run/authorized_keys /run/keys/%u"]
        options += ["StrictModes=no", "UsePAM=no", "PidFile=none"]
        options += ["PermitRootLogin=yes", "ListenAddress=0.0.0.0"]
        words = [word for option in options for word in ("-o", option)]
        server = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", str(self._host_key()), *words]
        log = (self.directory / "sshd.log").open("wb")
        argv = ["unshare", "--mount", "sh", "-c", _SERVE, str(self.directory), *server]
        self.server = self.namespace.popen(*argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._listens, f"the ssh server of {self.name} listens")

    def _set_clock(self) -> None:
        """Replace date and tcpdump by those of a host with another clock."""
        replaced = self.directory / "replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        if not self.ahead:
            return
        replaced.mkdir()
        for name in ("date", "tcpdump"):
            shutil.copy(f"/usr/bin/{name}", self.directory / f"real-{name}")
        shifted = [sys.executable, "-m", "tests.kit.lab.shifted", str(round(self.ahead * 1e6))]
        commands = {
            "date": f'{self.directory}/real-date -d "{self.ahead} seconds" "$@"',
            "tcpdump": f'{shlex.join(shifted)} {self.directory}/real-tcpdump "$@"',
        }
        for name, command in commands.items():
            path = replaced / name
            path.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {command}\n")
            path.chmod(0o755)

    def stop(self) -> None:
        """End the ssh server and its sessions."""
        if self.server is not None:
            self.kill_processes()
            self.server.wait()
            self.server = None

    def kill_processes(self) -> None:
        """Kill every process of the host, as a power failure does."""
        for pid in self.namespace.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[str]:
        """The command lines of the host's processes, without the ssh server's."""
        lines = []
        for pid in self.namespace.pids():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if line and "sshd" not in line.split()[0]:
                    lines.append(line)
        return lines

    # --- accounts that come and go, as a BOSH agent makes and removes them ----------

    def add_account(self, user: str, public_key: str) -> None:
        """Add a user, with sudo for everything and without a password, while the server runs."""
        if user in self.accounts():
            raise ValueError(f"useradd: user '{user}' already exists")
        number = 2000 + len(self.accounts())
        (self.directory / "keys" / user).write_text(public_key + "\n")
        self._append("passwd", f"{user}:x:{number}:1000::/tmp:/bin/sh")
        self._append("shadow", f"{user}:*:19000:0:99999:7:::")
        self._append("sudoers", f"{user} ALL=(ALL) NOPASSWD: ALL")

    def remove_accounts(self, pattern: str) -> None:
        """Remove the added users whose names match a regular expression."""
        gone = [user for user in self.added() if re.search(pattern, user)]
        for name in ("passwd", "shadow", "sudoers"):
            path = self.directory / name
            lines = path.read_text().splitlines()
            # In place, because the file is mounted.
            path.write_text("".join(f"{x}\n" for x in lines if re.split("[: ]", x)[0] not in gone))
        for user in gone:
            (self.directory / "keys" / user).unlink()

    def accounts(self) -> list[str]:
        """The names of all users."""
        return [line.partition(":")[0] for line in (self.directory / "passwd").read_text().splitlines()]

    def added(self) -> list[str]:
        """The names of the users that `add_account` made."""
        return sorted(path.name for path in (self.directory / "keys").iterdir())

    def _append(self, name: str, line: str) -> None:
        with (self.directory / name).open("a") as file:
            file.write(f"{line}\n")

    def _host_key(self) -> Path:
        path = self.directory / "host_key"
        if not path.exists():
            new_key(path)
        return path

    def _listens(self) -> bool:
        listening = self.namespace.run("ss", "-Hltn", "sport", "=", ":22").stdout
        return bool(listening.strip())


def _hashed(password: str) -> str:
    """A password as in shadow(5); nothing matches the one of an empty password."""
    if not password:
        return "*"
    done = subprocess.run(["openssl", "passwd", "-6", password], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def new_key(path: Path, kind: str = "ed25519") -> None:
    """Make an ssh key without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)


@dataclass
class Desk:
    """Where the user sits.

    Attributes:
        hosts: The hosts, by name.
        wire: Between the first and the second host.
        configuration: The ssh configuration; ``--ssh "ssh -F FILE"``.
    """

    namespace: Namespace
    directory: Path
    hosts: Mapping[str, SshHost]
    wire: Link
    key: Path
    configuration: Path

    @property
    def ssh(self) -> tuple[str, ...]:
        """The options of pcapctl that use this desk's ssh configuration."""
        return ("--ssh", f"ssh -F {self.configuration}")

    def command(self, *arguments: str) -> list[str]:
        """The command line of ``pcapctl ssh`` with these arguments."""
        return self.namespace.command(sys.executable, "-m", "pcapd.ctl", "ssh", *self.ssh, *arguments)

    def pcapctl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``pcapctl ssh`` to its end."""
        options.setdefault("timeout", 60)
        return subprocess.run(
            self.command(*arguments),
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
            **options,
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``pcapctl ssh``; it ends at the latest with the desk."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        process = subprocess.Popen(self.command(*arguments), text=True, **options)
        self.namespace.adopt(process)
        return process


@contextlib.contextmanager
def ssh_hosts(directory: Path, names: Sequence[str] = ("web-0", "web-1")) -> Iterator[Desk]:
    """Make the hosts and the desk.

    Args:
        directory: For keys, configurations and logs.
        names: Two names; the hosts are connected by the interface eth9.
    """
    key = directory / "user_key"
    new_key(key)
    key.chmod(0o600)
    with contextlib.ExitStack() as stack:
        desk = stack.enter_context(Namespace.unique("desk"))
        hosts = {}
        lines = []
        for number, name in enumerate(names):
            namespace = stack.enter_context(Namespace.unique(name))
            link = connect(desk, namespace, device=f"eth{number}", subnet=number + 1)
            hosts[name] = SshHost(name, namespace, link.right.ipv4, directory / name)
            lines += [f"Host {name}", f"    HostName {link.right.ipv4}"]
        first, second = (hosts[name].namespace for name in names)
        wire = connect(first, second, device="eth9", subnet=9)
        lines += ["Host *", "    User root", f"    IdentityFile {key}", "    IdentitiesOnly yes"]
        lines += ["    StrictHostKeyChecking accept-new", f"    UserKnownHostsFile {directory}/known_hosts"]
        configuration = directory / "ssh_config"
        configuration.write_text("\n".join(lines) + "\n")
        for host in hosts.values():
            stack.callback(host.stop)
            host.serve(key.with_suffix(".pub"))
        yield Desk(desk, directory, hosts, wire, key, configuration)
