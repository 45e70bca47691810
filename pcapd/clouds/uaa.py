"""Requests to UAA for tokens, as the CLIs and the api send them, and the URLs to which tokens may be sent.

Sources: RFC 6749; UAA's API documentation (https://docs.cloudfoundry.org/api/uaa).
"""

from __future__ import annotations

import base64
import json
import re
from typing import FrozenSet, NamedTuple, Optional
from urllib.parse import urlsplit

from pcapd.clouds.reading import AnswerReader
from pcapd.errors import PcapdError

__all__ = [
    "ClientToken",
    "Grant",
    "LoginProblem",
    "Tokens",
    "basic",
    "check_url",
    "parse_client_token",
    "parse_tokens",
]

_ANSWER = AnswerReader("UAA's")
#: Tokens are ASCII without spaces (RFC 6750, section 2.1).
_TOKEN = re.compile(r"[!-~]+")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class LoginProblem(PcapdError):
    """The login of the cf CLI or the BOSH CLI is missing, incomplete or expired."""


class Tokens(NamedTuple):
    """Tokens from UAA; without a new refresh token, the old one remains valid."""

    access: str
    refresh: str = ""
    scheme: str = "bearer"


class Grant(NamedTuple):
    """The content of a POST request for tokens."""

    form: str
    authorization: Optional[str]


def basic(client: str, secret: str) -> str:
    """The Authorization header of an OAuth client (RFC 6749, section 2.3.1)."""
    return f"Basic {base64.b64encode(f'{client}:{secret}'.encode()).decode()}"


def parse_tokens(body: bytes) -> Optional[Tokens]:
    """Read UAA's answer; None if it is not valid."""
    try:
        values = json.loads(body)
        access, refresh = values["access_token"], values.get("refresh_token") or ""
        scheme = values.get("token_type") or "bearer"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    # Checked before they are sent in a header and written to a file.
    fit = all(isinstance(text, str) and _TOKEN.fullmatch(text) for text in (access, refresh or "-", scheme))
    return Tokens(access, refresh, scheme) if fit else None


class ClientToken(NamedTuple):
    """A client's own token.

    Attributes:
        seconds: How long it is valid.
        scopes: What it allows.
    """

    access: str
    seconds: int
    scopes: FrozenSet[str]


def parse_client_token(body: bytes) -> ClientToken:
    """Read UAA's answer to ``grant_type=client_credentials``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    what = "a client's token"
    value = _ANSWER.mapping(body, what)
    access = _ANSWER.matching(_TOKEN, value, "access_token", what)
    seconds = _ANSWER.member(value, "expires_in", int, what)
    scopes = _ANSWER.member(value, "scope", str, what)
    return ClientToken(access, max(0, seconds), frozenset(scopes.split()))


def check_url(url: str, what: str, hint: str) -> None:
    """Check that a token may be sent to a URL: by https, or to this machine.

    Raises:
        LoginProblem: The token may not be sent to this URL.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not url.isprintable() or "@" in parts.netloc or parts.scheme not in ("https", "http"):
        raise LoginProblem(f"{what}, {url!r}, is not an https URL", hint)
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise LoginProblem(f"{what}, {url}, is not https, and a token is not sent in clear", hint)
