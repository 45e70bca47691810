"""What can be captured: interfaces (-D), targets (--list), and where the api is (status)."""

from __future__ import annotations

import json

from tests.kit.hosts.chain import Chain


def test_interfaces(chain: Chain) -> None:
    """-D lists those that are up, of each target, and lets no packet in; as JSON too."""
    done = chain.pcapctl("hosts", "web-1", "web-0", "-D")
    assert done.returncode == 0, done.stderr
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["web-0: eth0", "web-0: lo", "web-1: eth0", "web-1: lo"]
    assert lines[0][1] == "ETHERNET" and chain.link.left.ipv4 in lines[0][2]
    done = chain.pcapctl("hosts", "web-0", "-D", "--json")
    assert [json.loads(line)["interface"] for line in done.stdout.splitlines()] == ["eth0", "lo"]
    refused = chain.pcapctl("hosts", "web-0", "gone", "-D")
    assert refused.returncode == 1 and "no network namespace" in refused.stderr


def test_targets(chain: Chain) -> None:
    """--list shows what the user may name, and nothing without a good token."""
    done = chain.pcapctl("hosts", "--list")
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert {"web-0", "web-1", "machine"} <= set(names)
    done = chain.pcapctl("hosts", "--list", "--json", env={"PCAP_TOKEN": chain.bob})
    assert json.loads(done.stdout) == {"targets": ["web-1"]}
    refused = chain.pcapctl("hosts", "--list", env={"PCAP_TOKEN": "nobody's"})
    assert refused.returncode == 1 and "token is not known" in refused.stderr
    assert "NAME" in chain.pcapctl("hosts").stderr
