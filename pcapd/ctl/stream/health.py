"""Requests the api's status (``pcapctl status``) and its targets (``pcapctl hosts --list``)."""

from __future__ import annotations

import http.client
import json
from typing import Any, Dict, List, Tuple

from pcapd.ctl.display.text import escape
from pcapd.ctl.options import Access
from pcapd.ctl.stream.connection import ApiUnreachable, address_of, dial
from pcapd.ctl.stream.deadline import Deadline
from pcapd.errors import request_error
from pcapd.limits import EXCHANGE_TIMEOUT

__all__ = ["answered", "as_text", "ask", "no_api", "targets"]

_BODY_MAX = 1024 * 1024


def ask(access: Access) -> Dict[str, Any]:
    """The body of ``GET /health``.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
    """
    body = _get(access, "/health")
    if "healthy" not in body:
        raise no_api(access)
    return body


def targets(access: Access) -> List[str]:
    """The targets that the user may capture, from ``GET /v1/targets``.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    names = answered(access, "/v1/targets", "targets")["targets"]
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    raise no_api(access)


def answered(access: Access, page: str, key: str, method: str = "GET") -> Dict[str, Any]:
    """The JSON object in the api's answer, which has this key.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    body = _get(access, page, method)
    if key in body:
        return body
    errors = body.get("errors")
    refusal = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else None
    if refusal is None:
        raise no_api(access)
    raise request_error(*(str(refusal.get(key, "")) for key in ("code", "title", "detail")))


def no_api(access: Access) -> ApiUnreachable:
    """The error for an answer that is not one of an api."""
    _, host, port, _ = address_of(access.api, secret=False)
    return ApiUnreachable(f"{host} port {port} is not a pcapd api", "check --api")


def _get(access: Access, page: str, method: str = "GET") -> Dict[str, Any]:
    """The JSON object in the api's answer."""
    headers = {"Authorization": f"bearer {access.token}"} if access.token else {}
    _, host, port, path = address_of(access.api, secret=bool(access.token))
    connection = http.client.HTTPConnection(host, port)
    deadline = Deadline(EXCHANGE_TIMEOUT)
    connection.sock = dial(access, deadline)
    try:
        with deadline.shuts(connection.sock):
            connection.sock.settimeout(deadline.left())
            connection.request(method, f"{path}{page}", headers=headers)
            body = json.loads(connection.getresponse().read(_BODY_MAX))
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        if deadline.over:
            message = f"{host} port {port} did not answer within {deadline.seconds:g} s"
            raise ApiUnreachable(message, "check --api") from error
        raise no_api(access) from error
    finally:
        connection.close()
    if not isinstance(body, dict):
        raise no_api(access)
    return body


def as_text(body: Dict[str, Any]) -> Tuple[bool, List[str]]:
    """Whether the api is healthy, and its status as lines of text."""
    healthy = body["healthy"] is True
    lines = [
        f"{'healthy' if healthy else 'not healthy'}: {escape(str(body.get('message', '')))}",
        f"version {escape(str(body.get('version', 'unknown')))}, "
        f"protocol level {escape(str(body.get('compatibility_level', 'unknown')))}",
    ]
    resolvers = body.get("resolvers")
    for name, state in resolvers.items() if isinstance(resolvers, dict) else ():
        mark = "ok" if isinstance(state, dict) and state.get("healthy") is True else "not ready"
        message = str(state.get("message", "")) if isinstance(state, dict) else ""
        said = f", {escape(message)}" if message not in ("", "ready", "not ready") else ""
        lines.append(f"{escape(str(name))}: {mark}{said}")
    return healthy, lines
