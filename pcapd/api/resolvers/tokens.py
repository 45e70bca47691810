"""Tokens for BOSH: verification, and the permissions that they give.

Plain functions: no reactor, no sockets.  PyJWT checks the signature and the times; this
module decides which keys and issuers to trust.  Keys come only from the UAA that the
director names.  ``jku``, a URL of keys inside the token itself, is compared and never
used for a request (pcap-release compared only its beginning, so that
``https://uaa.example.com.evil.org`` was accepted).

Sources: RFC 7515 and 7519; UAA's UaaTokenServices.java, KeyInfo.java and
TokenKeyEndpoint.java; the director's permission_authorizer.rb for scopes and
uaa_token_decoder's refusal of refresh tokens, whose ``jti`` ends in ``-r``.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from pcapd.clouds.reading import printable
from pcapd.clouds.tokens import BOSH_LOG_IN, Issuer, TokenOwner, owner_of, texts
from pcapd.errors import Forbidden, ResolverUnavailable, Unauthenticated
from pcapd.limits import KEY_BITS, KEY_ID_MAX, KEYS_MAX, TOKEN_LEEWAY

__all__ = [
    "ALGORITHMS",
    "ScopeRule",
    "key_id",
    "parse_keys",
    "unknown_key",
    "verify",
]

#: The accepted signature algorithms of UAA.  Neither "none" nor one that uses a
#: shared secret (HS256) may ever be among them.
ALGORITHMS = ("RS256", "RS384", "RS512")

#: The client id of the BOSH CLI in UAA.
_CLI = "bosh_cli"


# --- keys --------------------------------------------------------------------


def parse_keys(body: bytes) -> tuple[Mapping[str, RSAPublicKey], tuple[str, ...]]:
    """Read UAA's ``/token_keys``.

    Returns:
        The RSA signature keys by their ids, and a message about each RSA signature key that
        cannot be used.  Keys of other kinds are ignored.

    Raises:
        ResolverUnavailable: The answer cannot be read, or none of its keys can be used.
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
    problems += [f"{count} keys have the id {printable(name)}" for name, count in ids.items() if count > 1]
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
    # Only the fields of a public key, because other fields could make it a private key.
    public = {name: entry.get(name) for name in ("kty", "n", "e")}
    if not all(isinstance(value, str) and len(value) <= 2 * KEY_BITS[1] for value in public.values()):
        return None
    try:
        key = RSAAlgorithm.from_jwk(public)
    except (jwt.InvalidKeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) else None


# --- tokens ------------------------------------------------------------------


def key_id(token: str, issuer: Issuer) -> str:
    """Read the id of the signing key from a token's header, and check the rest of the header.

    The header is not verified: it only selects the key to try.

    Raises:
        Unauthenticated: The header is not that of a token of this UAA.
    """
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise Unauthenticated("the token is not one of UAA's", BOSH_LOG_IN) from error
    algorithm, name = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise Unauthenticated(
            f"the token is not signed with {', '.join(ALGORITHMS)}",
            "only tokens signed with UAA's keys are accepted",
        )
    if "jku" in header and not issuer.keeps_keys_at(header["jku"]):
        raise Unauthenticated("the token names a key address other than UAA's", BOSH_LOG_IN)
    if not isinstance(name, str) or not 0 < len(name) <= KEY_ID_MAX:
        raise Unauthenticated("the token does not name the UAA key that signed it", BOSH_LOG_IN)
    return name


def unknown_key() -> Unauthenticated:
    """The error for a key id that UAA does not have."""
    return Unauthenticated("the token is not signed with one of UAA's keys", BOSH_LOG_IN)


def verify(token: str, key: RSAPublicKey, issuer: Issuer, rule: ScopeRule) -> TokenOwner:
    """Verify a token; its claims can be trusted afterwards.

    Args:
        key: The key that `key_id` named.
        rule: The rule that defines the accepted audiences.

    Raises:
        Unauthenticated: The token is not signed with that key, not for us, not from UAA,
            not valid now, or not an access token.
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=list(ALGORITHMS),
            leeway=TOKEN_LEEWAY,
            # The audience and the issuer are checked below.
            options={"verify_aud": False, "verify_iss": False, "require": ["exp", "iss", "aud", "jti"]},
        )
        expired = float(claims["exp"]) <= time.time()
    except jwt.ExpiredSignatureError:
        expired = True
    except jwt.ImmatureSignatureError as error:
        raise Unauthenticated("the token is not valid yet", "check the clocks") from error
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Unauthenticated("the token is not UAA's, or is damaged", BOSH_LOG_IN) from error
    if expired:
        raise Unauthenticated("the token has expired", BOSH_LOG_IN)
    if not issuer.issued(claims["iss"]):
        raise Unauthenticated("the token is from another UAA than the director's", BOSH_LOG_IN)
    if claims["jti"].endswith("-r"):
        raise Unauthenticated("this is a refresh token, but an access token is needed", BOSH_LOG_IN)
    if not rule.addresses(texts(claims["aud"])):
        raise Unauthenticated("the token is not meant for BOSH", BOSH_LOG_IN)
    return owner_of(claims, "bosh", rule.director, issuer.url)


# --- permissions -------------------------------------------------------------


@dataclass(frozen=True)
class ScopeRule:
    """Decides which users may capture: admins of the deployment, or users with a certain scope.

    Attributes:
        director: The director's uuid.
        token_scope: A scope that is required instead of the admins' scopes.
    """

    director: str
    token_scope: str | None = None

    def addresses(self, audience: Collection[str]) -> bool:
        """Whether a token's ``aud`` names BOSH; UAA puts each scope up to its last dot into it."""
        ours = {"bosh", _CLI, f"bosh.{self.director}"}
        if self.token_scope is not None:
            ours.add(self.token_scope.rpartition(".")[0] or self.token_scope)
        return any(name in ours or name.startswith("bosh.teams.") for name in audience)

    def allows(self, owner: TokenOwner, teams: Collection[str] = ()) -> bool:
        """Whether the owner may capture the VMs of a deployment that belongs to these teams."""
        if self.token_scope is not None:
            return self.token_scope in owner.scopes
        admins = {
            "bosh.admin",
            f"bosh.{self.director}.admin",
            *(f"bosh.teams.{team}.admin" for team in teams),
        }
        return not admins.isdisjoint(owner.scopes)

    def depends_on_teams(self, owner: TokenOwner) -> bool:
        """Whether the owner is the admin of a team, so that the deployment's teams decide."""
        if self.token_scope is not None:
            return False
        return any(scope.startswith("bosh.teams.") and scope.endswith(".admin") for scope in owner.scopes)

    def forbidden(self, owner: TokenOwner, deployment: str) -> Forbidden:
        """The error for an owner who may not capture."""
        needed = self.token_scope or "bosh.admin, or bosh.teams.TEAM.admin of one of its teams"
        # The same message whether or not the deployment exists, so that names cannot be guessed.
        return Forbidden(
            f"{owner.user} may not capture on deployment {deployment}", f"the required scope is {needed}"
        )
