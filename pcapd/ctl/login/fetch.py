"""One HTTP request and its answer, bounded in bytes and in time.

Redirects are not followed: a token is sent only to the host it is meant for.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional
from urllib.parse import urlsplit

import pcapd
from pcapd.ctl.options import Access, Trust
from pcapd.ctl.stream.connection import ApiUnreachable, address_of, dial
from pcapd.ctl.stream.deadline import Deadline
from pcapd.errors import PcapdError
from pcapd.limits import EXCHANGE_TIMEOUT, MIB

__all__ = ["Answer", "Client", "CloudUnreachable"]

#: Bytes of an answer; a page of Cloud Controller, with fifty apps, takes a tenth of it.
BODY_MAX = 2 * MIB
#: Hints for Cloud Controller and UAA, instead of those about --api.
CF_HINTS = {"check --api": "check: cf api"}


class CloudUnreachable(PcapdError):
    """There is no answer, or it is not valid HTTP."""


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes:
        headers: Header values by lower-case name.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Dict[str, Any]:
        """The body as a JSON object; empty if it is not one."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


class Client:
    """Sends requests over connections that are secured as the user wants.

    Args:
        ca: File of additional CA certificates.
        trust: Which other CAs are accepted.
        pem: Additional CA certificates as text.
        hints: Replacements for hints that mention --api.
        bosh: Use the proxy that the BOSH CLI's own variable names.
    """

    def __init__(
        self,
        ca: Optional[Path],
        trust: Trust,
        *,
        pem: str = "",
        hints: Mapping[str, str] = CF_HINTS,
        bosh: bool = False,
    ) -> None:
        self._ca = ca
        self._trust = trust
        self._pem = pem
        self._hints = hints
        self._bosh = bosh

    def get(self, url: str, token: Optional[str] = None) -> Answer:
        """GET, with the user's token where one is given.

        Raises:
            CloudUnreachable: There was no complete answer in time.
        """
        return self._ask("GET", url, {"Authorization": f"bearer {token}"} if token else {})

    def post(self, url: str, form: str, authorization: Optional[str]) -> Answer:
        """POST a form.

        Raises:
            CloudUnreachable: There was no complete answer in time.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if authorization:
            headers["Authorization"] = authorization
        return self._ask("POST", url, headers, form)

    def _ask(self, method: str, url: str, headers: Dict[str, str], body: Optional[str] = None) -> Answer:
        parts = urlsplit(url)
        access = Access(
            f"{parts.scheme}://{parts.netloc}", None, self._ca, self._trust, self._pem, self._bosh
        )
        secure, host, port, _ = address_of(access.api)
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = 443 if secure else 80  # the port that the Host header omits
        deadline = Deadline(EXCHANGE_TIMEOUT)
        connection.sock = _dial(access, self._hints, deadline)
        try:
            with deadline.shuts(connection.sock):
                connection.sock.settimeout(deadline.left())
                agent = f"pcapctl/{pcapd.__version__}"
                headers = {"Accept": "application/json", "User-Agent": agent, **headers}
                target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
                connection.request(method, target, body, headers)
                answer = _read(connection.getresponse(), host)
            if deadline.over:
                raise socket.timeout  # a body without a length also ends at a cut
            return answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = f"did not answer within {deadline.seconds:g} s"
            problem = late if deadline.over else "closed the connection, or does not speak HTTP"
            # Not the error's own text: that of http.client may quote the request.
            raise CloudUnreachable(f"{host} port {port} {problem}", "try again later") from error
        finally:
            connection.close()


def _dial(access: Access, hints: Mapping[str, str], deadline: Deadline) -> socket.socket:
    try:
        return dial(access, deadline)
    except ApiUnreachable as error:
        # The user did not name this host with --api.
        raise CloudUnreachable(error.message, hints.get(error.hint, error.hint)) from error


def _read(response: http.client.HTTPResponse, host: str) -> Answer:
    body = response.read(BODY_MAX + 1)
    if len(body) > BODY_MAX:
        raise CloudUnreachable(f"the answer of {host} is too long")
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body)
