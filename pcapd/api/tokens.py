"""Tokens of a director's UAA: are they real, whose are they, and what do they allow?

Plain functions: no reactor, no sockets.  The signature, the times and the form are
PyJWT's work; what is ours is whom to believe.  Keys are those of the UAA that the
director names and of nobody else: ``jku``, the address of keys that a token carries
itself, is compared and never followed (pcap-release compared its beginning, so
``https://uaa.example.com.evil.org`` passed).

Sources: RFC 7515 and 7519; UAA's UaaTokenServices.java, KeyInfo.java and
TokenKeyEndpoint.java; the director's permission_authorizer.rb for scopes and
uaa_token_decoder's refusal of refresh tokens, whose ``jti`` ends in ``-r``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from pcapd.errors import Forbidden, ResolverUnavailable, Unauthenticated
from pcapd.limits import KEY_BITS, KEY_ID_MAX, KEYS_MAX, NAME_MAX, TOKEN_LEEWAY, TOKEN_MAX

__all__ = [
    "ALGORITHMS",
    "Caller",
    "Issuer",
    "Policy",
    "check_form",
    "key_id",
    "parse_keys",
    "same_url",
    "unknown_key",
    "verify",
]

#: What UAA signs with, as far as we believe it.  Neither "none" nor any that
#: takes a public key for a secret (HS256) can ever be among them.
ALGORITHMS = ("RS256", "RS384", "RS512")

_TOKEN = re.compile(r"[!-~]+")
_LOG_IN = "log in again: bosh log-in"
#: The client that the BOSH CLI is to UAA.
_CLI = "bosh_cli"


@dataclass(frozen=True)
class Issuer:
    """Who may have issued a token, as the director says.

    Attributes:
        url: UAA's, without a final slash; its keys are fetched there.
        urls: Other names of the same UAA, by which a token may know it.
    """

    url: str
    urls: tuple[str, ...] = ()

    def _says(self, url: object, path: str) -> bool:
        return isinstance(url, str) and any(same_url(url, base + path) for base in (self.url, *self.urls))

    def issued(self, issuer: object) -> bool:
        """Whether a token's ``iss`` is this UAA."""
        return self._says(issuer, "/oauth/token")

    def keeps_keys_at(self, address: object) -> bool:
        """Whether a token's ``jku`` is this UAA's address for keys."""
        return self._says(address, "/token_keys")


@dataclass(frozen=True)
class Caller:
    """Who has a token that was verified.

    Attributes:
        user: For the audit log and the limit per user; printable.
    """

    user: str
    scopes: frozenset[str]


def same_url(one: str, other: str) -> bool:
    """Whether two https URLs name the same thing: scheme, host, port and path, to the letter."""
    first, second = _taken_apart(one), _taken_apart(other)
    return first is not None and first == second


def _taken_apart(url: str) -> tuple[str, int, str] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        return None
    strange = parts.scheme != "https" or "@" in parts.netloc or parts.query or parts.fragment
    if strange or not parts.hostname or not _TOKEN.fullmatch(url) or "\\" in url:
        return None
    return parts.hostname, port, parts.path


# --- keys --------------------------------------------------------------------


def parse_keys(body: bytes) -> Mapping[str, RSAPublicKey]:
    """Read UAA's ``/token_keys``: RSA keys for signatures by their ids; others are left out.

    Raises:
        ResolverUnavailable: It is not that.
    """
    nonsense = ResolverUnavailable("UAA's answer about its keys makes no sense", "try again later")
    try:
        entries = json.loads(body)["keys"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise nonsense from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise nonsense
    if len(entries) > KEYS_MAX:
        raise ResolverUnavailable(f"UAA shows more than {KEYS_MAX} keys")
    keys: dict[str, RSAPublicKey] = {}
    for entry in entries:
        if entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
            continue
        name, key = entry.get("kid"), _key(entry)
        if not isinstance(name, str) or not 0 < len(name) <= KEY_ID_MAX or key is None or name in keys:
            raise nonsense
        if KEY_BITS[0] <= key.key_size <= KEY_BITS[1]:
            keys[name] = key
    return keys


def _key(entry: dict[str, Any]) -> RSAPublicKey | None:
    # Only what makes a public key: what else is there could make it a private one.
    public = {name: entry.get(name) for name in ("kty", "n", "e")}
    if not all(isinstance(value, str) and len(value) <= 2 * KEY_BITS[1] for value in public.values()):
        return None
    try:
        key = RSAAlgorithm.from_jwk(public)
    except (jwt.InvalidKeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) else None


# --- tokens ------------------------------------------------------------------


def check_form(token: str) -> None:
    """Refuse what must not become a header.

    Raises:
        Unauthenticated: It cannot be a token.
    """
    if len(token) > TOKEN_MAX or not _TOKEN.fullmatch(token):
        raise Unauthenticated("the token holds characters that no token has, or too many", _LOG_IN)


def key_id(token: str, issuer: Issuer) -> str:
    """The id of the key that a token says it is signed with; all else in its header is checked.

    Nothing of it is verified: it only tells which key to try.

    Raises:
        Unauthenticated: No token of this UAA has such a header.
    """
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise Unauthenticated("the token is not one of UAA's", _LOG_IN) from error
    algorithm, name = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise Unauthenticated(
            f"the token is not signed with {', '.join(ALGORITHMS)}", "only signatures of UAA's keys count"
        )
    if "jku" in header and not issuer.keeps_keys_at(header["jku"]):
        raise Unauthenticated("the token says that its key is somewhere else than UAA's", _LOG_IN)
    if not isinstance(name, str) or not 0 < len(name) <= KEY_ID_MAX:
        raise Unauthenticated("the token does not say which of UAA's keys signed it", _LOG_IN)
    return name


def unknown_key() -> Unauthenticated:
    """The error for a key id that UAA does not show."""
    return Unauthenticated("the token is not signed with one of UAA's keys", _LOG_IN)


def verify(token: str, key: RSAPublicKey, issuer: Issuer, policy: Policy) -> Caller:
    """Check a token; what it says is true afterwards.

    Args:
        key: The one that `key_id` named.
        policy: Knows whom tokens for this purpose are for.

    Raises:
        Unauthenticated: It is not signed with that key, not for us, not from UAA, not valid
            now, or no access token at all.
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=list(ALGORITHMS),
            leeway=TOKEN_LEEWAY,
            # Those two have rules of their own here.
            options={"verify_aud": False, "verify_iss": False, "require": ["exp", "iss", "aud", "jti"]},
        )
        expired = float(claims["exp"]) <= time.time()
    except jwt.ExpiredSignatureError:
        expired = True
    except jwt.ImmatureSignatureError as error:
        raise Unauthenticated("the token is not valid yet", "are the clocks right?") from error
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Unauthenticated("the token is not UAA's, or is damaged", _LOG_IN) from error
    if expired:
        raise Unauthenticated("the token has expired", _LOG_IN)
    if not issuer.issued(claims["iss"]):
        raise Unauthenticated("the token is from another UAA than the director's", _LOG_IN)
    if claims["jti"].endswith("-r"):
        raise Unauthenticated("this is a refresh token, and an access token is needed", _LOG_IN)
    if not policy.addresses(_texts(claims["aud"])):
        raise Unauthenticated("the token is not meant for BOSH", _LOG_IN)
    return Caller(_name(claims), _texts(claims.get("scope")))


def _texts(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset({value})
    return (
        frozenset(text for text in value if isinstance(text, str)) if isinstance(value, list) else frozenset()
    )


def _name(claims: Mapping[str, Any]) -> str:
    # Tokens of clients, not of people, have no user.
    for claim in ("user_name", "user_id", "client_id"):
        value = claims.get(claim)
        if isinstance(value, str) and value:
            return "".join(char if char.isprintable() else "?" for char in value[:NAME_MAX])
    return "unknown"


# --- what they allow ---------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """Who may capture: as `bosh ssh`, an admin of the deployment, or whoever has one scope.

    Attributes:
        director: Its uuid.
        token_scope: A scope that decides alone, instead of those of admins.
    """

    director: str
    token_scope: str | None = None

    def addresses(self, audience: Collection[str]) -> bool:
        """Whether a token's ``aud`` names BOSH: UAA derives it from scopes, up to their last dot."""
        ours = {"bosh", _CLI, f"bosh.{self.director}"}
        if self.token_scope is not None:
            ours.add(self.token_scope.rpartition(".")[0] or self.token_scope)
        return any(name in ours or name.startswith("bosh.teams.") for name in audience)

    def allows(self, caller: Caller, teams: Collection[str] = ()) -> bool:
        """Whether they may capture on a deployment of these teams."""
        if self.token_scope is not None:
            return self.token_scope in caller.scopes
        admins = {
            "bosh.admin",
            f"bosh.{self.director}.admin",
            *(f"bosh.teams.{team}.admin" for team in teams),
        }
        return not admins.isdisjoint(caller.scopes)

    def depends_on_teams(self, caller: Caller) -> bool:
        """Whether they are the admin of some team, so that the deployment's teams decide."""
        if self.token_scope is not None:
            return False
        return any(scope.startswith("bosh.teams.") and scope.endswith(".admin") for scope in caller.scopes)

    def forbidden(self, caller: Caller, deployment: str) -> Forbidden:
        """The error for somebody who may not."""
        needed = self.token_scope or "bosh.admin, or bosh.teams.TEAM.admin of one of its teams"
        # The same words whether it exists: names are not to be probed.
        return Forbidden(
            f"{caller.user} may not capture on deployment {deployment}", f"it needs the scope {needed}"
        )
