"""``pcapctl status``: what the api says of itself."""

from __future__ import annotations

import http.client
import json
from typing import Any, Dict, List, Tuple

from pcapd.ctl.display.text import escape
from pcapd.ctl.options import Access
from pcapd.ctl.stream.connection import ApiUnreachable, address_of, dial
from pcapd.ctl.stream.deadline import Deadline
from pcapd.limits import EXCHANGE_TIMEOUT

__all__ = ["as_text", "ask"]

_BODY_MAX = 1024 * 1024


def ask(access: Access) -> Dict[str, Any]:
    """The body of ``GET /health``.

    Raises:
        ApiUnreachable: There is no answer, or not an api's.
    """
    _, host, port, path = address_of(access.api, secret=bool(access.token))
    connection = http.client.HTTPConnection(host, port)
    deadline = Deadline(EXCHANGE_TIMEOUT)
    connection.sock = dial(access, deadline)
    try:
        with deadline.shuts(connection.sock):
            connection.sock.settimeout(deadline.left())
            connection.request("GET", f"{path}/health")
            body = json.loads(connection.getresponse().read(_BODY_MAX))
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        if deadline.over:
            words = f"{host} port {port} did not answer within {deadline.seconds:g} s"
            raise ApiUnreachable(words, "check --api") from error
        raise ApiUnreachable(f"{host} port {port} is not a pcapd api", "check --api") from error
    finally:
        connection.close()
    if not isinstance(body, dict) or "healthy" not in body:
        raise ApiUnreachable(f"{host} port {port} is not a pcapd api", "check --api")
    return body


def as_text(body: Dict[str, Any]) -> Tuple[bool, List[str]]:
    """Whether it is healthy, and lines that say so."""
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
