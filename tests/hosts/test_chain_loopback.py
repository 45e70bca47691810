"""A capture of the interface on which agent, api and pcapctl themselves talk does not feed back."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from chain_tools import read_pcapng

from tests.lab.configurations import LOCAL
from tests.lab.daemons import Lab
from tests.lab.processes import run

COUNT = 200

SEND = (
    "import socket,time\n"
    "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
    "for n in range({count}): s.sendto(b'%d' % n,('127.0.0.1',9997)); time.sleep(0.01)"
)


@pytest.fixture
def alone(tmp_path: Path) -> object:
    """Agent, api and pcapctl in one namespace, on whose lo nothing else is said."""
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    lab = Lab(tmp_path)
    place = {"host": LOCAL, "port": lab.agent.port}
    lab.api.config["static"]["targets"] = {"here": place, "here-too": place}
    lab.agent._namespace = lab.api._namespace = lab.web0
    with lab:
        yield lab


@pytest.mark.parametrize("targets", [("here",), ("here", "here-too")])
def test_no_feedback(alone: Lab, targets: tuple[str, ...]) -> None:
    """Without a filter, the file holds what others said on lo, and not one packet of the capture's own."""
    path = alone.directory / "lo.pcapng"
    argv = alone.client_command(
        *("hosts", *targets, "--device", "lo", "--duration", "4s", "--json", "--output", str(path))
    )
    sender = alone.web0.popen(
        sys.executable, "-c", "import time; time.sleep(1.5)\n" + SEND.format(count=COUNT)
    )
    done = run(alone.web0.command(*argv), env=alone.client_environment(), cwd=alone.directory)
    sender.wait()
    report = json.loads(done.stdout.splitlines()[-1])
    file = read_pcapng(path)
    ports = set()
    for packet in file.packets:
        header = 14 + (packet.data[14] & 15) * 4
        if packet.data[23] == 6:
            ports |= {int.from_bytes(packet.data[header + n : header + n + 2], "big") for n in (0, 2)}
    assert not ports & {alone.agent.port, alone.api.port}
    for target in targets:
        # Each packet once, and the ICMP error that answers it.
        own = [packet for packet in file.of(f"{target}:lo") if packet.data[23] == 17]
        assert len(own) == COUNT
        assert len(file.of(f"{target}:lo")) <= 2 * COUNT
    assert report["lost"] == 0
