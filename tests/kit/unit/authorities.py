"""Authorities without a network: the doubles of servers are not started, and answer all the same."""

from __future__ import annotations

from typing import Any, Mapping, Optional
from urllib.parse import parse_qs, urlencode, urlsplit

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pcapd.net.fetch import Answer, Conversation
from tests.kit.doubles.https import Asked, HttpsDouble

__all__ = ["Authorities", "is_over", "outcome"]


class Authorities:
    """Stands for `pcapd.net.fetch.Authority`: whoever is asked is one of these servers.

    Args:
        servers: They note what they are asked, as if it had come over HTTPS.

    Attributes:
        statuses: By path, instead of the right ones; bodies stay as they are.
        silent: Requests arrive, and their answers wait until `speak`.
        asking: Requests that are not answered yet.
    """

    def __init__(self, *servers: HttpsDouble) -> None:
        self.servers = {server.url: server for server in servers}
        self.statuses: dict[str, int] = {}
        self.silent = False
        self.asking = 0
        self._waiting: list[Deferred[None]] = []

    def __call__(self, reactor: Any, name: str, url: str, ca: Any) -> _Authority:
        return _Authority(self, url)

    def speak(self) -> None:
        """Give the answers that wait."""
        self.silent = False
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.called:
                answer.callback(None)

    async def answered(self) -> None:
        """Wait while nobody speaks."""
        if self.silent:
            self._waiting.append(Deferred())
            await self._waiting[-1]


class _Authority:
    def __init__(self, all_of_them: Authorities, url: str) -> None:
        parts = urlsplit(url)
        self.base = f"https://{parts.netloc}"
        self._all = all_of_them
        self._server = all_of_them.servers[self.base]

    def conversation(self) -> Conversation:
        return Conversation(self)  # type: ignore[arg-type]  # as much of one as it needs

    async def get(self, target: str, token: Optional[str] = None) -> Answer:
        parts = urlsplit(target)
        headers = {} if token is None else {"authorization": f"bearer {token}"}
        return await self._answer(Asked("GET", parts.path, parse_qs(parts.query), headers))

    async def post(self, target: str, form: Mapping[str, str]) -> Answer:
        body = urlencode(form)
        return await self._answer(Asked("POST", target, {}, {}, parse_qs(body), body.encode()))

    async def _answer(self, asked: Asked) -> Answer:
        given = self._server.get(asked)
        self._all.asking += 1
        await self._all.answered()
        self._all.asking -= 1
        status = self._all.statuses.get(asked.path, given.status)
        return Answer(status, {name.lower(): value for name, value in given.headers}, given.content)

    def renew(self) -> None:
        """It has no certificates."""

    def close(self) -> None:
        """It has nothing to drop."""


def is_over(deferred: Deferred[Any]) -> bool:
    """Whether it came to something; one that waits for another one does not know."""
    seen: list[Any] = []

    def look(result: Any) -> Any:
        seen.append(result)
        return result

    deferred.addBoth(look)
    return bool(seen)


def outcome(deferred: Deferred[Any]) -> Any:
    """What came of it; a failure is raised."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "there is no answer yet"
    if isinstance(results[0], Failure):
        raise results[0].value
    return results[0]
