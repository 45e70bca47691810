"""UAA's tokens: can they be real, are they, whose are they, and what do they allow?

Plain functions: no reactor, no sockets.  Whatever a token is for, its form and its
expiry are looked at before anybody is asked about it (`check_form`).  A token for
BOSH is verified here: the signature and the times are PyJWT's work; what is ours is
whom to believe.  Keys are those of the UAA that the director names and of nobody else:
``jku``, the address of keys that a token carries itself, is compared and never followed
(pcap-release compared its beginning, so ``https://uaa.example.com.evil.org`` passed).
Cloud Controller verifies its tokens itself; nothing else of them is believed before.

Sources: RFC 7515 and 7519; UAA's UaaTokenServices.java, KeyInfo.java and
TokenKeyEndpoint.java; the director's permission_authorizer.rb for scopes and
uaa_token_decoder's refusal of refresh tokens, whose ``jti`` ends in ``-r``.
"""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

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
    "caller_of",
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
#: A JWS in its compact form; of an unsigned one the last part is empty.
_JWT = re.compile(r"([\w-]+)\.([\w-]+)\.[\w-]*", re.ASCII)
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
        user: For people and the audit log; printable, and not unique.
        identity: Unique; for the limit per user.
        origin: Which of UAA's sources of users knows them, such as ``uaa`` or ``ldap``;
            empty for a client.  Printable.
    """

    user: str
    scopes: frozenset[str]
    identity: str
    origin: str = ""


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


def parse_keys(body: bytes) -> tuple[Mapping[str, RSAPublicKey], tuple[str, ...]]:
    """Read UAA's ``/token_keys``.

    Returns:
        RSA keys for signatures by their ids, other kinds left out; and a text about each
        of them that cannot be used.  It makes no other key useless.

    Raises:
        ResolverUnavailable: It is not that, or none of them can be used.
    """
    nonsense = ResolverUnavailable("UAA's answer about its keys makes no sense", "try again later")
    try:
        entries = json.loads(body)["keys"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise nonsense from error
    if not isinstance(entries, list):
        raise nonsense
    if len(entries) > KEYS_MAX:
        raise ResolverUnavailable(f"UAA shows more than {KEYS_MAX} keys")
    found, problems = _named_keys(entries)
    ids = Counter(name for name, _ in found)
    problems += [f"{count} keys have the id {_printable(name)}" for name, count in ids.items() if count > 1]
    known = {name: key for name, key in found if ids[name] == 1}
    if problems and not known:
        raise nonsense
    strong = {name: key for name, key in known.items() if KEY_BITS[0] <= key.key_size <= KEY_BITS[1]}
    return strong, tuple(problems)


def _named_keys(entries: list[Any]) -> tuple[list[tuple[str, RSAPublicKey]], list[str]]:
    found, problems = [], []
    for number, entry in enumerate(entries, 1):
        given = entry if isinstance(entry, dict) else {"kty": "RSA"}
        if given.get("kty") != "RSA" or given.get("use", "sig") != "sig":
            continue
        name, key = given.get("kid"), _key(given)
        if isinstance(name, str) and 0 < len(name) <= KEY_ID_MAX and key is not None:
            found.append((name, key))
        else:
            problems.append(f"key {number} cannot be read")
    return found, problems


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


def check_form(token: str, log_in: str = _LOG_IN, leeway: float = 0.0) -> Mapping[str, Any]:
    """Refuse what cannot be one of UAA's access tokens that is valid now, without asking an authority.

    Args:
        log_in: How to get a better one.
        leeway: Seconds after its end in which a token still passes.

    Returns:
        Its claims.  They are NOT verified.

    Raises:
        Unauthenticated: It cannot be a token, or has expired.
    """
    if len(token) > TOKEN_MAX or not _TOKEN.fullmatch(token):
        raise Unauthenticated("the token holds characters that no token has, or too many", log_in)
    parts = _JWT.fullmatch(token)
    header, claims = map(_object, parts.groups()) if parts else (None, None)
    if header is None or claims is None:
        raise Unauthenticated("the token is not one of UAA's: it is not a JWT", log_in)
    expires = _seconds(claims.get("exp"))
    if expires is None:
        raise Unauthenticated("the token is not one of UAA's: it does not say when it expires", log_in)
    if expires + leeway <= time.time():
        raise Unauthenticated("the token has expired", log_in)
    return claims


def _object(part: str) -> dict[str, Any] | None:
    """A JSON object in base64url without padding (RFC 7515, section 2); None where it is not one."""
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _seconds(value: object) -> float | None:
    """A time (RFC 7519, NumericDate); None where it is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


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
    return caller_of(claims, "bosh", policy.director, issuer.url)


def _texts(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset({value})
    return (
        frozenset(text for text in value if isinstance(text, str)) if isinstance(value, list) else frozenset()
    )


def caller_of(claims: Mapping[str, Any], *realm: str) -> Caller:
    """Read from a token's claims whose it is.

    Args:
        claims: Of a token that was verified, here or by the authority that accepted it.
        realm: What the ids of users and clients are unique in.
    """
    name, user = _text(claims, "user_name"), _text(claims, "user_id")
    client = _text(claims, "client_id") or "unknown"
    # Tokens of clients, not of people, have no user.
    origin = _text(claims, "origin") if name or user else ""
    id = ("user", origin, user or name) if name or user else ("client", client)
    identity = ":".join(quote(part, safe="/", errors="surrogatepass") for part in (*realm, *id))
    shown, scopes = name or user or client, _texts(claims.get("scope"))
    return Caller(_printable(shown), scopes, identity, _printable(origin))


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:NAME_MAX])


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
