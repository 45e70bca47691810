"""The running captures: ``GET /v1/captures``, ``POST /v1/captures/ID/stop``; and ``GET /v1/agents``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource

from pcapd.api.http.web import CaptureService, ClientInfo, answer
from pcapd.limits import NAME_MAX
from pcapd.net.pages import NotFoundResource, Page

__all__ = ["AgentsResource", "CapturesResource"]

Ask = Callable[[ClientInfo], Deferred[Any]]


class CapturesResource(Page):
    """The list, and below it the captures.

    Args:
        service: The api.
        listed: Lists the captures that a client may see.
        stopped: Ends the capture of an id.
    """

    def __init__(
        self, service: CaptureService, listed: Ask, stopped: Callable[[ClientInfo, str], Deferred[Any]]
    ) -> None:
        super().__init__()
        self._service = service
        self._listed = listed
        self._stopped = stopped

    def getChild(self, path: bytes, request: Any) -> Resource:
        """The page that stops a capture; nothing else is below the list."""
        if request.postpath != [b"stop"] or len(path) > NAME_MAX or not path.isascii():
            return NotFoundResource()
        name = path.decode("ascii")
        request.postpath = []
        return _StopResource(self._service, lambda client: self._stopped(client, name))

    def render_GET(self, request: Any) -> Any:
        """Answer with the list."""
        return answer(self._service, request, self._listed)


class AgentsResource(Page):
    """The list of agents.

    Args:
        service: The api.
        listed: Lists the agents that a client may see.
    """

    isLeaf = True

    def __init__(self, service: CaptureService, listed: Ask) -> None:
        super().__init__()
        self._service = service
        self._listed = listed

    def render_GET(self, request: Any) -> Any:
        """Answer with the list."""
        return answer(self._service, request, self._listed)


class _StopResource(Page):
    isLeaf = True
    methods = ("POST",)

    def __init__(self, service: CaptureService, ask: Ask) -> None:
        super().__init__()
        self._service = service
        self._ask = ask

    def render_POST(self, request: Any) -> Any:
        """End the capture."""
        return answer(self._service, request, self._ask)
