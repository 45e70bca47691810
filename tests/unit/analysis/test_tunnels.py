"""The same packets in every encapsulation that we know: one flow, whatever is around it, as tshark sees it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Dict, Tuple

import pytest

from pcapd.ctl.display.decode import decode
from pcapd.ctl.display.flows import as_event, read
from pcapd.savefile import blocks
from tests.kit.tunnels import (
    PACKETS,
    places,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every packet at every place, a millisecond apart."""
    names = places(PACKETS["TCP"])
    data = [blocks.section_header("pcapd")]
    data += [blocks.interface_description(name, link_type, 262144) for name, link_type, _ in names]
    us = 1_000_000
    for packet in PACKETS.values():
        for interface, (_, _, frame) in enumerate(places(packet)):
            data.append(blocks.enhanced_packet(interface, us, len(frame), frame))
            us += 1000
    path = tmp_path_factory.mktemp("encapsulations") / "all.pcapng"
    path.write_bytes(b"".join(data))
    return path


def test_one_flow_at_all_places(file: Path) -> None:
    """Each packet is recognised at all places, and has its ports there."""
    found: Dict[Tuple[str, str, str], Dict[str, int]] = {}
    for hop in read([str(file)]).hops():
        event = as_event(hop)
        seen = found.setdefault((event["protocol"], event["from"], event["to"]), {})
        seen[event["a"]["source"]] = event["a"]["packets"]
        assert event["b"] is not None, f"{event['from']} is seen at {event['a']['source']} alone"
        seen[event["b"]["source"]] = event["b"]["packets"]
    names = {name for name, _, _ in places(b"\x45")}
    assert {flow: set(seen) for flow, seen in found.items()} == {
        ("TCP", "192.0.2.1:40000", "192.0.2.2:80"): names,
        ("UDP", "192.0.2.1:40000", "192.0.2.2:9"): names,
        ("TCP", "[2001:db8::1]:40000", "[2001:db8::2]:80"): names,
    }
    assert {flow: set(seen.values()) for flow, seen in found.items()} == {
        ("TCP", "192.0.2.1:40000", "192.0.2.2:80"): {1},
        ("UDP", "192.0.2.1:40000", "192.0.2.2:9"): {2},
        ("TCP", "[2001:db8::1]:40000", "[2001:db8::2]:80"): {3},
    }


def test_printed_as_tshark_sees_it(file: Path) -> None:
    """Addresses and ports of every packet in every encapsulation."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    names = [
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.dstport",
        "udp.srcport",
        "udp.dstport",
    ]
    # Reassembly would show the first fragment, which is all there is, without ports.
    command = ["tshark", "-n", "-r", str(file), "-o", "ip.defragment:FALSE", "-T", "fields"]
    command += [flag for name in names for flag in ("-e", name)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    frames = [(link, frame) for packet in PACKETS.values() for _, link, frame in places(packet)]
    assert len(lines) == len(frames)
    for line, (link_type, frame) in zip(lines, frames):
        four_from, four_to, six_from, six_to, *ports = line.split("\t")
        source, destination = (port for port in ports if port)
        found = decode(link_type, frame)
        if four_from:
            assert (found.source, found.destination) == (f"{four_from}:{source}", f"{four_to}:{destination}")
        else:
            assert (found.source, found.destination) == (
                f"[{six_from}]:{source}",
                f"[{six_to}]:{destination}",
            )
