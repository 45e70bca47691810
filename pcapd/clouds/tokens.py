"""Reads UAA's tokens: form, expiry, issuer and owner.  Nothing is verified here.

The form and expiry of every token are checked before it is sent to an authority
(`check_form`).  Tokens for Cloud Controller are verified by Cloud Controller, and their
claims are not trusted before that.  Tokens for BOSH are verified by the api
(`pcapd.api.resolvers.tokens`).

Sources: RFC 7515 and 7519; UAA's UaaTokenServices.java.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple
from urllib.parse import quote, urlsplit

from pcapd.clouds.reading import printable
from pcapd.errors import Unauthenticated
from pcapd.limits import TOKEN_MAX

__all__ = [
    "BOSH_LOG_IN",
    "CF_LOG_IN",
    "Issuer",
    "TokenOwner",
    "check_form",
    "expiry",
    "lasts",
    "owner_of",
    "same_url",
    "texts",
]

#: Hints for how to get a valid token.
BOSH_LOG_IN = "log in again: bosh log-in"
CF_LOG_IN = "log in again: cf login"

#: Tokens are ASCII without spaces (RFC 6750, section 2.1).
_TOKEN = re.compile(r"[!-~]+")
#: A time later than any real one, in seconds since the epoch.
_FAR = 1e15
#: A JWS in compact form; the last part of an unsigned one is empty.
_JWT = re.compile(r"([\w-]+)\.([\w-]+)\.[\w-]*", re.ASCII)


@dataclass(frozen=True)
class Issuer:
    """The UAA that the director names as the issuer of its tokens.

    Attributes:
        url: UAA's URL, without a final slash, from which its keys are fetched.
        urls: Other URLs of the same UAA that a token may contain.
    """

    url: str
    urls: Tuple[str, ...] = ()

    def _is_mine(self, url: object, path: str) -> bool:
        return isinstance(url, str) and any(same_url(url, base + path) for base in (self.url, *self.urls))

    def issued(self, issuer: object) -> bool:
        """Whether a token's ``iss`` is this UAA."""
        return self._is_mine(issuer, "/oauth/token")

    def keeps_keys_at(self, address: object) -> bool:
        """Whether a token's ``jku`` is the URL of this UAA's keys."""
        return self._is_mine(address, "/token_keys")


@dataclass(frozen=True)
class TokenOwner:
    """The owner of a token.

    Attributes:
        user: Name for messages and the audit log; printable, and not unique.
        identity: Unique id, for the limits per user.
        origin: The user's identity provider at UAA, such as ``uaa`` or ``ldap``; empty for a
            client.  Printable.
    """

    user: str
    scopes: FrozenSet[str]
    identity: str
    origin: str = ""


def same_url(one: str, other: str) -> bool:
    """Whether two https URLs have exactly the same host, port and path."""
    first, second = _taken_apart(one), _taken_apart(other)
    return first is not None and first == second


def _taken_apart(url: str) -> Optional[Tuple[str, int, str]]:
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        return None
    strange = parts.scheme != "https" or "@" in parts.netloc or parts.query or parts.fragment
    if strange or not parts.hostname or not _TOKEN.fullmatch(url) or "\\" in url:
        return None
    return parts.hostname, port, parts.path


def check_form(token: str, now: float, log_in: str = BOSH_LOG_IN, leeway: float = 0.0) -> Mapping[str, Any]:
    """Refuse a token that cannot be a valid access token of UAA, without asking an authority.

    Args:
        now: The present time in seconds since the epoch.
        log_in: Hint for how to get a valid token.
        leeway: Seconds after its expiry in which a token is still accepted.

    Returns:
        The token's claims, which are NOT verified.

    Raises:
        Unauthenticated: The text is not a token, or the token has expired.
    """
    if len(token) > TOKEN_MAX or not _TOKEN.fullmatch(token):
        raise Unauthenticated("the token has invalid characters, or too many", log_in)
    parts = _JWT.fullmatch(token)
    header, claims = map(_object, parts.groups()) if parts else (None, None)
    if header is None or claims is None:
        raise Unauthenticated("the token is not one of UAA's: it is not a JWT", log_in)
    expires = _seconds(claims.get("exp"))
    if expires is None:
        raise Unauthenticated("the token is not one of UAA's: it has no expiry time", log_in)
    if expires + leeway <= now:
        raise Unauthenticated("the token has expired", log_in)
    return claims


def expiry(token: str) -> Optional[float]:
    """When an access token expires, in seconds since the epoch; None if unknown (opaque)."""
    _, _, rest = token.partition(".")
    claims = _object(rest.partition(".")[0])
    ends = None if claims is None else _seconds(claims.get("exp"))
    return ends if ends is not None and abs(ends) < _FAR else None


def lasts(token: str, until: float) -> bool:
    """Whether a token is not empty and valid until a time; an unknown expiry counts as valid.

    Args:
        until: Seconds since the epoch.
    """
    ends = expiry(token)
    return bool(token) and (ends is None or ends >= until)


def _object(part: str) -> Optional[Dict[str, Any]]:
    """A JSON object in base64url without padding (RFC 7515, section 2); None if it is not one."""
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _seconds(value: object) -> Optional[float]:
    """A time (RFC 7519, NumericDate); None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


# --- owner -------------------------------------------------------------


def texts(value: object) -> FrozenSet[str]:
    """The strings of a claim that may be one or a list (RFC 7519, section 4.1.3)."""
    if isinstance(value, str):
        return frozenset({value})
    return (
        frozenset(text for text in value if isinstance(text, str)) if isinstance(value, list) else frozenset()
    )


def owner_of(claims: Mapping[str, Any], *realm: str) -> TokenOwner:
    """Read a token's owner from its claims.

    Args:
        claims: Claims of a token; trust the result only if the token is verified.
        realm: Names the issuer within which ids of users and clients are unique.
    """
    name, user = _text(claims, "user_name"), _text(claims, "user_id")
    client = _text(claims, "client_id") or "unknown"
    # Tokens of clients, not of people, have no user.
    origin = _text(claims, "origin") if name or user else ""
    id = ("user", origin, user or name) if name or user else ("client", client)
    identity = ":".join(quote(part, safe="/", errors="surrogatepass") for part in (*realm, *id))
    shown, scopes = name or user or client, texts(claims.get("scope"))
    return TokenOwner(printable(shown), scopes, identity, printable(origin))


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""
