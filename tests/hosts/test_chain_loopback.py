"""A capture of the interface on which agent, api and pcapctl themselves talk does not feed back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from demo.configurations import LOCAL
from demo.daemons import Lab
from tests.kit.hosts.chain import Client

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


def begin(lab: Lab, *arguments: str) -> Client:
    """A running pcapctl beside the daemons."""
    path = lab.directory / "lo.pcapng"
    argv = lab.client_command("hosts", *arguments, "--json", "--output", str(path))
    output, stderr = path.with_suffix(".events"), path.with_suffix(".stderr")
    with output.open("wb") as out, stderr.open("wb") as err:
        process = lab.web0.popen(
            *argv, env=lab.client_environment(), cwd=lab.directory, stdout=out, stderr=err
        )
    return Client(process, path, output, stderr)


@pytest.mark.parametrize("targets", [("here",), ("here", "here-too")])
@pytest.mark.long(but=("targets0",))
def test_no_feedback(alone: Lab, targets: tuple[str, ...]) -> None:
    """Without a filter, the file holds what others said on lo, and not one packet of the capture's own."""
    names = [f"{target}:lo" for target in targets]
    client = begin(alone, *targets, "--device", "lo")
    client.wait_for(*names)
    alone.web0.run(sys.executable, "-c", SEND.format(count=COUNT))
    client.wait_for(*names, packets=COUNT)
    done = client.stop()
    file = done.file
    ports = set()
    for packet in file.packets:
        header = 14 + (packet.data[14] & 15) * 4
        if packet.data[23] == 6:
            ports |= {int.from_bytes(packet.data[header + n : header + n + 2], "big") for n in (0, 2)}
    assert not ports & {alone.agent.port, alone.api.port}
    for name in names:
        # Each packet once, and the ICMP error that answers it.
        own = [packet for packet in file.of(name) if packet.data[23] == 17]
        assert len(own) == COUNT
        assert len(file.of(name)) <= 2 * COUNT
    assert done.report["lost"] == 0
