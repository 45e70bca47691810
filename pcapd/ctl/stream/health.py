"""Requests the api's status (``pcapctl status``) and its targets (``pcapctl hosts --list``)."""

from __future__ import annotations

import datetime
import http.client
import json
from typing import Any, Dict, List, Tuple, Type, TypeVar

from pcapd.ctl.display.text import escape, natural
from pcapd.ctl.options import Access
from pcapd.ctl.stream.connection import ApiUnreachable, address_of, dial
from pcapd.ctl.stream.deadline import Deadline
from pcapd.errors import request_error
from pcapd.limits import EXCHANGE_TIMEOUT

__all__ = ["agents", "agents_as_text", "answered", "as_text", "ask", "no_api", "targets"]

_BODY_MAX = 1024 * 1024
_AGENTS_MAX = 8 * _BODY_MAX  # of PROBED_AGENTS_MAX agents
_NEVER = 253402300800  # the year 10000, which datetime cannot show

T = TypeVar("T")


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
    return _list(access, "targets", str)


def _list(access: Access, name: str, kind: Type[T], most: int = _BODY_MAX) -> List[T]:
    items = answered(access, f"/v1/{name}", name, most=most)[name]
    if isinstance(items, list) and all(isinstance(item, kind) for item in items):
        return items
    raise no_api(access)


def answered(
    access: Access, page: str, key: str, method: str = "GET", *, most: int = _BODY_MAX
) -> Dict[str, Any]:
    """The JSON object in the api's answer, which has this key.

    Args:
        most: Length of the answer, in bytes.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    body = _get(access, page, method, most)
    if key in body:
        return body
    errors = body.get("errors")
    refusal = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else None
    if refusal is None:
        raise no_api(access)
    raise request_error(*(str(refusal.get(key, "")) for key in ("code", "title", "detail")))


def agents(access: Access) -> List[Dict[str, Any]]:
    """The agents of the targets that the user may capture, from ``GET /v1/agents``.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    return _list(access, "agents", dict, _AGENTS_MAX)


def agents_as_text(found: List[Dict[str, Any]]) -> List[str]:
    """Agents as lines of text: first those that are not reachable, with the reason."""
    there = [agent for agent in found if agent.get("state") == "reachable"]
    lines = [f"agents: {len(found)} known, {len(there)} reachable"]
    for agent in sorted(found, key=lambda one: (one in there, natural(str(one.get("host"))))):
        where = str(agent.get("host"))
        where = f"[{where}]" if ":" in where else where
        names = agent.get("targets")
        named = f" ({', '.join(map(str, names))})" if isinstance(names, list) and names else ""
        lines.append("  " + escape(f"{where}:{agent.get('port')}{named}: {_state(agent)}"))
    return lines


def _state(agent: Dict[str, Any]) -> str:
    if agent.get("state") != "reachable":
        trouble = agent.get("trouble")
        return f"not reachable: {trouble}" if trouble else "not asked yet"
    kinds = agent.get("capabilities")
    words = [
        f"version {agent.get('version')}",
        str(agent.get("libpcap") or "no libpcap"),
        "captures " + ", ".join(map(str, kinds)) if isinstance(kinds, list) and kinds else "captures nothing",
    ]
    expires = agent.get("expires")
    if isinstance(expires, (int, float)) and 0 <= expires < _NEVER:
        day = datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)
        words.append(f"certificate until {day:%Y-%m-%d}")
    return "; ".join(words)


def no_api(access: Access) -> ApiUnreachable:
    """The error for an answer that is not one of an api."""
    _, host, port, _ = address_of(access.api, secret=False)
    return ApiUnreachable(f"{host} port {port} is not a pcapd api", "check --api")


def _get(access: Access, page: str, method: str = "GET", most: int = _BODY_MAX) -> Dict[str, Any]:
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
            body = json.loads(connection.getresponse().read(most))
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
