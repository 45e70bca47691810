"""Pages of the HTTP servers, and errors as bodies."""

from __future__ import annotations

import json
from typing import Any

from twisted.web.resource import Resource

from pcapd.errors import LimitReached, MethodNotAllowed, RequestError, TargetNotFound, Unauthenticated

__all__ = ["NotFoundResource", "Page", "answer_json", "deny"]


def deny(request: Any, error: RequestError) -> bytes:
    """Answer with an error in Cloud Controller's form."""
    body = {"errors": [{"code": error.code, "title": error.message, "detail": error.hint}]}
    if isinstance(error, Unauthenticated):
        request.setHeader("WWW-Authenticate", 'Bearer realm="pcapd"')
    if isinstance(error, MethodNotAllowed):
        request.setHeader("Allow", ", ".join(error.allowed))
    if isinstance(error, LimitReached) and error.retry_after is not None:
        request.setHeader("Retry-After", str(error.retry_after))
    return answer_json(request, error.status, body)


def answer_json(request: Any, status: int, body: Any) -> bytes:
    """Answer with a value as JSON."""
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    return json.dumps(body).encode() + b"\n"


class Page(Resource):
    """A page that answers the HTTP methods that it supports, and refuses others."""

    methods: tuple[str, ...] = ("GET", "HEAD")

    def render(self, request: Any) -> Any:
        """Answer a supported method, and refuse others."""
        method = request.method.decode("ascii")
        if method in self.methods:
            return super().render(request)
        error = MethodNotAllowed(f"this page does not support {method}", f"use {' or '.join(self.methods)}")
        error.allowed = self.methods
        return self.refuse(request, error)

    def refuse(self, request: Any, error: RequestError) -> bytes:
        """Answer with an error."""
        return deny(request, error)


class NotFoundResource(Resource):
    """Answers 404 for every other path.

    Args:
        hint: The paths that exist.
    """

    def __init__(self, hint: str = "use /health, /capture or /v1/stream") -> None:
        super().__init__()
        self._hint = hint

    def getChild(self, path: bytes, request: Any) -> Resource:
        """Answer 404 below this path too."""
        return self

    def render(self, request: Any) -> bytes:
        """Answer 404 and list the paths that exist."""
        return deny(request, TargetNotFound("no such page", self._hint))
