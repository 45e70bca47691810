"""The api's site without a network: requests in memory, and what comes back."""

from __future__ import annotations

import json
from typing import Any, Optional

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from demo.certificates import Credentials
from pcapd.api.service import Api
from tests.kit.unit.api import TOKEN, config
from tests.kit.unit.transport import HttpTransport

GENEROUS = {"per_user": 5, "concurrent_captures": 50}


class Answer:
    """One exchange with the site, in memory."""

    def __init__(
        self, front: Front, path: str, method: str, token: Optional[str], headers: dict[str, str], body: bytes
    ) -> None:
        self.transport = HttpTransport()
        self._channel = front.site.buildProtocol(self.transport.getPeer())
        self._channel.makeConnection(self.transport)
        lines = [f"{method} {path} HTTP/1.1", "Host: api"]
        if token is not None:
            lines.append(f"Authorization: bearer {token}")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._channel.dataReceived("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body)

    @property
    def raw(self) -> bytes:
        return self.transport.value()

    @property
    def status(self) -> int:
        """0 while there is none."""
        return int(self.raw.split()[1]) if self.raw else 0

    @property
    def headers(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode().lower()

    @property
    def body(self) -> bytes:
        """Without the marks of the chunks."""
        rest = self.raw.partition(b"\r\n\r\n")[2]
        if "transfer-encoding: chunked" not in self.headers:
            return rest
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return body

    @property
    def complete(self) -> bool:
        """Whether the last chunk has come."""
        return self.raw.endswith(b"\r\n0\r\n\r\n")

    @property
    def error(self) -> dict[str, str]:
        """The one error of an error body."""
        assert "content-type: application/json" in self.headers
        (error,) = json.loads(self.body)["errors"]
        assert set(error) == {"code", "title", "detail"}
        return dict(error)

    @property
    def over(self) -> bool:
        """Whether the connection is free for another request."""
        return not self._channel.requests

    def leave(self) -> None:
        """The client goes."""
        self._channel.connectionLost(Failure(ConnectionDone()))


class Front:
    """An api and its site."""

    def __init__(self, reactor: Clock, credentials: Credentials, **limits: Any) -> None:
        self.reactor = reactor
        self.api = Api(config(credentials, **limits), reactor)
        self.site = self.api._site
        self._answers: list[Answer] = []

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        token: Optional[str] = TOKEN,
        body: bytes = b"",
        **headers: str,
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = Answer(self, path, method, token, named, body)
        self._answers.append(answer)
        return answer

    def close(self) -> None:
        for answer in self._answers:
            answer.leave()
        self.reactor.advance(0)
        for call in self.reactor.getDelayedCalls():
            call.cancel()


def limited(reactor: Clock, credentials: Credentials, **limits: Any) -> Front:
    return Front(reactor, credentials, **limits)


def fired(deferred: Any) -> bool:
    return bool(deferred.called)
