"""``pcapctl status``: an answer that is an api's, and its words."""

from __future__ import annotations

from typing import Any

import pytest

from demo.configurations import LOCAL
from pcapd.ctl.options import Access
from pcapd.ctl.stream.connection import ApiUnreachable
from pcapd.ctl.stream.health import as_text, ask
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
