"""Instances of a Cloud Foundry app as hosts: ``cf ssh``, and Diego's ``cf-pcap`` in the container.  Pure.

Sources: the cf CLI's command/v7/ssh_command.go, and cf-pcap of diego-release (since 2.130).
"""

from __future__ import annotations

import shlex
from typing import Final, Tuple

from pcapd.ctl.ssh.hosts import Host

__all__ = ["CF_PCAP", "cf_host"]

#: Path of the program in each container.
CF_PCAP: Final = "/tmp/lifecycle/cf-pcap"  # noqa: S108  # Diego's fixed path
#: diego-sshd's port, if Cloud Controller shows no ports.
_SSHD_PORTS: Final = (2222,)


def cf_host(
    name: str,
    app: str,
    index: int,
    *,
    type: str = "web",
    ports: Tuple[int, ...] = (),
    program: str = "cf",
) -> Host:
    """One instance.

    Several commands cannot share a connection of ``cf ssh``, so each interface has its own.

    Args:
        name: Its name in the capture.
        app: The app's name.
        index: The instance's number.
        type: Its process type.
        ports: The ports that carry ssh in its container.  cf-pcap excludes one of them itself,
            but none on the interface ``any``, and none on ``eth0`` where the app has no Envoy.
        program: The cf CLI.
    """
    # Versions of the cf CLI before 7 have no --process.
    process = () if type == "web" else ("--process", type)
    words = (program, "ssh", app, *process, "-i", str(index), "--disable-pseudo-tty", "-c")
    return Host(
        name,
        words,
        (),
        tool=CF_PCAP,
        device="eth0",
        ports=ports or _SSHD_PORTS,
        try_with=shlex.join(["cf", *words[1:-2], "-c", "true"]),
    )
