"""One HTTP request and its answer, with limits on bytes and time.

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

#: Largest size of an answer in bytes; a page of fifty apps has about a tenth of this size.
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
    """Sends requests over connections that use the user's settings for TLS and proxies.

    Args:
        ca: File of additional CA certificates.
        trust: The CAs that are accepted.
        pem: Additional CA certificates as text.
        hints: Replacements for hints that mention --api, by the original hint.
        bosh: Whether to use the proxy that the BOSH CLI's own variable names.
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
        """Send GET, with the user's token if one is given.

        Raises:
            CloudUnreachable: There was no complete answer in time.
        """
        return self._ask("GET", url, {"Authorization": f"bearer {token}"} if token else {})

    def post(self, url: str, form: str, authorization: Optional[str]) -> Answer:
        """Send a form with POST.

        Raises:
            CloudUnreachable: There was no complete answer in time.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if authorization:
            headers["Authorization"] = authorization
        return self._ask("POST", url, headers, form)

    def post_json(
        self, url: str, value: Mapping[str, Any], token: str, *, timeout: Optional[float] = None
    ) -> Answer:
        """Send a JSON object with POST, with the user's token.

        Args:
            timeout: Seconds for the whole exchange; None for the usual time.

        Raises:
            CloudUnreachable: There was no complete answer in time.
        """
        headers = {"Content-Type": "application/json", "Authorization": f"bearer {token}"}
        return self._ask("POST", url, headers, json.dumps(value), timeout)

    def _ask(
        self,
        method: str,
        url: str,
        headers: Dict[str, str],
        body: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> Answer:
        parts = urlsplit(url)
        access = Access(
            f"{parts.scheme}://{parts.netloc}", None, self._ca, self._trust, self._pem, self._bosh
        )
        secure, host, port, _ = address_of(access.api)
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = 443 if secure else 80  # the Host header is sent without this port
        deadline = Deadline(timeout or EXCHANGE_TIMEOUT)
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
                raise socket.timeout  # for http.client, a body without a length ends here too
            return answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = f"did not answer within {deadline.seconds:g} s"
            problem = late if deadline.over else "closed the connection, or does not speak HTTP"
            # Without the text of the error, because http.client may quote the request in it.
            raise CloudUnreachable(f"{host} port {port} {problem}", "try again later") from error
        finally:
            connection.close()


def _dial(access: Access, hints: Mapping[str, str], deadline: Deadline) -> socket.socket:
    try:
        return dial(access, deadline)
    except ApiUnreachable as error:
        # This host was not given with --api, so hints about --api are replaced.
        raise CloudUnreachable(error.message, hints.get(error.hint, error.hint)) from error


def _read(response: http.client.HTTPResponse, host: str) -> Answer:
    body = response.read(BODY_MAX + 1)
    if len(body) > BODY_MAX:
        raise CloudUnreachable(f"the answer of {host} is too long")
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body)
