"""``pcapctl status``: an answer that is an api's, and its words."""

from __future__ import annotations

from typing import Any

import pytest

from demo.configurations import LOCAL
from pcapd.ctl.options import Access
from pcapd.ctl.stream.connection import ApiUnreachable
from pcapd.ctl.stream.health import agents_as_text, as_text, ask
from tests.kit.doubles.stream_api import Client, StreamApi


def asked(body: bytes) -> Any:
    """Ask a server that answers with this."""

    def script(client: Client) -> None:
        assert client.head().startswith(b"GET /health HTTP/1.1\r\n")
        client.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with StreamApi(None, script) as api:
        answer = ask(Access(f"http://{LOCAL}:{api.port}", None))
    assert not api.failures
    return answer


def test_an_api() -> None:
    """An api is healthy if its answer says so, and its text cannot control the terminal."""
    resolvers = b'{"static":{},"bosh":{"healthy":true,"message":"ready"}}'
    healthy, lines = as_text(asked(b'{"healthy":true,"message":"a\\u001b[2J","resolvers":%s}' % resolvers))
    assert healthy and lines[0] == "healthy: a\\x1b[2J"
    assert lines[-2:] == ["static: not ready", "bosh: ok"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'["healthy"]',
        b'"healthy"',
        b"null",
        b"<html>",
        b"[" * 99_999,
        b'{"healthy":true,"message":"%s"}' % (b"x" * 1024 * 1024),
    ],
    ids=["empty", "list", "list with it", "text", "null", "page", "deep", "long"],
)
def test_something_else(body: bytes) -> None:
    """JSON that is not a health answer is not taken for an api."""
    with pytest.raises(ApiUnreachable, match="is not a pcapd api"):
        asked(body)


def test_agents_as_text() -> None:
    """Agents that are not reachable come first, values of another type do no harm, and nothing controls the terminal."""
    found: list[dict[str, Any]] = [
        {"host": "192.0.2.1", "port": 9494, "state": "reachable", "targets": ["web-0"], "version": "0.1.0",
         "libpcap": "libpcap version 1.10.5", "capabilities": ["interfaces"], "expires": 1_800_000_000.0},
        {"host": "fd00::7", "port": 9494, "state": "unreachable", "trouble": "refused\x1b[2J"},
        {"host": "192.0.2.3", "port": 9494, "state": "unasked", "targets": 5},
        {"state": "reachable", "capabilities": {}, "expires": 1e300, "version": None, "libpcap": ""},
    ]  # fmt: skip
    assert agents_as_text(found) == [
        "agents: 4 known, 2 reachable",
        "  [fd00::7]:9494: not reachable: refused\\x1b[2J",
        "  192.0.2.3:9494: not asked yet",
        "  None:None: version None; no libpcap; captures nothing",
        "  192.0.2.1:9494 (web-0): version 0.1.0; libpcap version 1.10.5; captures interfaces; "
        "certificate until 2027-01-15",
    ]
