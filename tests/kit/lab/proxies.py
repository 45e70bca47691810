"""Real proxies: tinyproxy, and OpenSSH's server and client.

They run where one more name is known than here (a mount namespace with a hosts file of
its own): whoever connects to that name does it through them.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path
from typing import Iterator, Sequence

from demo.configurations import LOCAL, free_port
from demo.processes import end, wait_until

_ELSEWHERE = """
set -e
mount --make-rprivate /
mount --bind "$0" /etc/hosts
mount -t tmpfs tmpfs /run
mkdir /run/sshd
exec "$@"
"""


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOCAL, port), 1.0):
        return True
    return False


@contextlib.contextmanager
def _running(argv: Sequence[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, f"{argv[0]} listens")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        end(process)


class Proxies:
    """What there is in a directory.

    Args:
        name: That only the proxies know; it is 127.0.0.1.

    Attributes:
        key: A private key that the ssh server accepts.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._hosts = directory / "hosts"
        self._hosts.write_text(f"{LOCAL} localhost {name}\n")
        self.key = self._new_key("user")

    def _new_key(self, name: str) -> Path:
        path = self._directory / f"{name}_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    def _elsewhere(self, *argv: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", _ELSEWHERE, str(self._hosts), *argv]

    @property
    def log(self) -> str:
        """What tinyproxy was asked for."""
        return (self._directory / "tinyproxy.log").read_text()

    @property
    def logins(self) -> int:
        """How often the ssh server was connected to, and let somebody in."""
        return (self._directory / "sshd.log").read_text().count("Accepted publickey")

    @contextlib.contextmanager
    def http(self, *lines: str) -> Iterator[str]:
        """Run tinyproxy, with these lines in its configuration; gives ``HOST:PORT``."""
        port = free_port()
        configuration = self._directory / "tinyproxy.conf"
        settings = [f"Port {port}", f"Listen {LOCAL}", "Timeout 60", "LogLevel Connect", *lines]
        configuration.write_text("\n".join([*settings, ""]))
        argv = self._elsewhere("tinyproxy", "-d", "-c", str(configuration))
        with _running(argv, port, self._directory / "tinyproxy.log"):
            yield f"{LOCAL}:{port}"

    @contextlib.contextmanager
    def ssh(self) -> Iterator[str]:
        """Run an ssh server; gives ``HOST:PORT``."""
        port = free_port()
        options = [f"AuthorizedKeysFile={self.key}.pub", "StrictModes=no", "UsePAM=no", "PidFile=none"]
        words = [word for option in options for word in ("-o", option)]
        argv = [
            "/usr/sbin/sshd",
            "-D",
            "-e",
            "-f",
            "/dev/null",
            "-p",
            str(port),
            "-h",
            str(self._new_key("host")),
        ]
        with _running(self._elsewhere(*argv, *words), port, self._directory / "sshd.log"):
            yield f"{LOCAL}:{port}"

    @contextlib.contextmanager
    def socks(self) -> Iterator[str]:
        """Run ``ssh -D``, which is a SOCKS proxy, through an ssh server; gives ``HOST:PORT``."""
        port = free_port()
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
        words = [word for option in options for word in ("-o", option)]
        with self.ssh() as server:
            host, _, there = server.partition(":")
            argv = [
                "ssh",
                *words,
                "-i",
                str(self.key),
                "-N",
                "-D",
                f"{LOCAL}:{port}",
                "-p",
                there,
                f"root@{host}",
            ]
            with _running(argv, port, self._directory / "ssh.log"):
                yield f"{LOCAL}:{port}"
