"""Interfaces that come and go while they are captured, and all that are up."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Iterator

import pytest

from demo.processes import wait_until
from pcapd.limits import INTERFACE_RETURN, INTERFACES_MAX
from tests.kit.hosts.chain import Chain, Client, assert_accounted
from tests.kit.lab.readers import require, tshark_fields

#: Sends a datagram out of an interface that has no peer to answer.
SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sending:
    sending.bind((sys.argv[1], 0))
    for number in range(int(sys.argv[2])):
        sending.send(bytes(12) + b"\\x88\\xb5" + number.to_bytes(4, "big") + bytes(42))
"""
FILTER = ("--filter", "ether proto 0x88b5")


def make(chain: Chain, name: str) -> None:
    """A veth of that name in web-0's namespace, up."""
    chain.web0.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
    chain.web0.ip("link", "set", f"{name}-peer", "up")
    chain.web0.ip("link", "set", name, "up")


def send(chain: Chain, name: str, count: int) -> None:
    chain.web0.run(sys.executable, "-c", SEND, name, str(count))


def told(client: Client, words: str) -> str:
    """The notice with these words, when it has come."""

    def found() -> list[str]:
        return [notice["message"] for notice in client.notices() if words in notice["message"]]

    wait_until(lambda: bool(found()), f"a notice says {words!r}", timeout=INTERFACE_RETURN)
    return found()[0]


@pytest.fixture
def spare(chain: Chain) -> Iterator[str]:
    """An interface that may be lost."""
    make(chain, "spare0")
    yield "spare0"
    for name in ("spare0", "renamed0", "late0"):
        with contextlib.suppress(AssertionError):
            chain.web0.ip("link", "delete", name)


def test_an_interface_that_is_down_for_a_while(chain: Chain, spare: str) -> None:
    """An interface that was down continues as the same source, under another name too, and nothing else is lost."""
    client = chain.begin("web-0", "--device", spare, *FILTER)
    client.wait_for("web-0:spare0")
    send(chain, spare, 10)
    chain.web0.ip("link", "set", spare, "down")
    told(client, "spare0 is down; the capture waits for it")
    chain.web0.ip("link", "set", spare, "name", "renamed0")
    chain.web0.ip("link", "set", "renamed0", "up")
    assert re.search(r"up again after \d+\.\d s", told(client, "spare0 is up again"))
    send(chain, "renamed0", 5)
    client.wait_for("web-0:spare0", packets=15)
    result = client.stop()
    assert_accounted(result)
    assert result.status == 0 and result.report["packets"] == 15, result.stderr


@pytest.mark.long
def test_an_interface_that_is_made_again(chain: Chain, spare: str) -> None:
    """An interface that is made again is another source of the same name; the file has the packets of both."""
    require("tshark")
    client = chain.begin("web-0", "--device", spare, *FILTER)
    client.wait_for("web-0:spare0", timeout=30)
    send(chain, spare, 10)
    client.wait_for("web-0:spare0", packets=10)
    chain.web0.ip("link", "delete", spare)
    told(client, "spare0 is gone")
    make(chain, spare)
    told(client, "spare0 is captured again after")
    send(chain, spare, 5)
    client.wait_for("web-0:spare0", packets=5)
    result = client.stop()
    assert result.status == 3, "something may be missing"
    assert [source["written"] for source in result.report["sources"]] == [10, 5]
    assert len(tshark_fields(result.path, ["frame.number"])) == 15


def test_any(chain: Chain, spare: str) -> None:
    """With `any`, each interface that is up is a source of its own, also one that appears later, up to the limit."""
    client = chain.begin("web-0", "--device", "any", *FILTER)
    client.wait_for("web-0:eth0", "web-0:lo", "web-0:spare0", "web-0:spare0-peer")
    make(chain, "late0")
    client.wait_for("web-0:late0")
    send(chain, "late0", 5)
    client.wait_for("web-0:late0", packets=5)
    make(chain, "renamed0")
    send(chain, "renamed0", 5)
    wait_until(lambda: len(client.packets()) == INTERFACES_MAX, "as many as fit are captured", timeout=10)
    result = client.stop()
    assert_accounted(result)
    assert result.status == 0, result.stderr
    assert result.sources["web-0:late0"]["written"] == 5
