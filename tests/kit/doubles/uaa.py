"""The UAA: signs tokens, shows its keys, refreshes and introspects.

Follows the UAA: RS256 with rotating keys, ``ETag`` and 304 on ``/token_keys``,
refresh tokens whose ``jti`` ends in ``-r``, and errors in OAuth's form.  It can
also be told to make what must be refused: `Uaa.forge`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any, Callable, Optional

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from demo.certificates import Credentials
from tests.kit.doubles.https import Answer, Asked, HttpsDouble

#: Seconds; as in cf-deployment.
ACCESS_VALIDITY, REFRESH_VALIDITY = 1200, 30 * 24 * 3600


def b64(data: bytes) -> str:
    """Encode as JWS does: URL-safe, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def audience(scopes: list[str], client: str) -> list[str]:
    """Derive a token's audience from its scopes, as UAA does."""
    return sorted({scope.rpartition(".")[0] for scope in scopes if "." in scope} | {client})


def oauth_error(status: int, error: str, description: str) -> Answer:
    """Say no, in OAuth's form."""
    return Answer(status, {"error": error, "error_description": description})


class Key:
    """A signing key."""

    def __init__(self, name: str, bits: int = 2048) -> None:
        self.name = name
        self.private = rsa.generate_private_key(65537, bits)
        self.pem = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, data: bytes) -> bytes:
        """Sign for RS256."""
        return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def public(self) -> dict[str, str]:
        """Return its entry of ``/token_keys``."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "e": b64(numbers.e.to_bytes(3, "big")),
            "use": "sig",
            "kid": self.name,
            "alg": "RS256",
            "value": self.pem.decode(),
            "n": b64(numbers.n.to_bytes(self.private.key_size // 8, "big")),
        }


class Uaa(HttpsDouble):
    """The UAA.

    Attributes:
        keys: Of which the first signs.
        clients: Secrets by client; those of `resources` may introspect.
        refresh_tokens: Claims by refresh token.
        revoked: Access tokens that introspection denies.
        authorities: Scopes of clients' own tokens, where they are not the usual ones.
        rotating: A refresh gives a new refresh token and ends the old one.
        passwords: Of users, for the password grant.
        logged_in: Is called with the user and the access token of such a grant.
    """

    def __init__(self, credentials: Credentials, port: int = 0) -> None:
        super().__init__(credentials, port)
        self.keys = [Key("key-1"), Key("key-2")]
        self.clients = {"cf": "", "bosh_cli": "", "pcap-api": secrets.token_hex(8)}
        self.resources = {"pcap-api"}
        self.refresh_tokens: dict[str, dict[str, Any]] = {}
        self.access_tokens: dict[str, dict[str, Any]] = {}
        self.revoked: set[str] = set()
        self.authorities: dict[str, list[str]] = {}
        self.rotating = False
        self.passwords: dict[str, str] = {}
        self.logged_in: Callable[[str, str], None] = lambda user, token: None

    # --- tokens ------------------------------------------------------------

    def claims(self, client: str = "cf", user: Optional[str] = "alice", **claims: Any) -> dict[str, Any]:
        """Make an access token's claims; without a user those of a client's own token."""
        now = int(time.time())
        common = {
            "jti": secrets.token_hex(16),
            "client_id": client,
            "cid": client,
            "azp": client,
            "iat": now,
            "exp": now + ACCESS_VALIDITY,
            "iss": f"{self.url}/oauth/token",
            "zid": "uaa",
            "scope": ["cloud_controller.read", "openid"],
            "aud": ["cloud_controller", "openid", client],
        }
        if user is None:
            own = {"sub": client, "grant_type": "client_credentials", "authorities": common["scope"]}
            return {**common, **own, **claims}
        person = {"sub": f"{user}-id", "user_id": f"{user}-id", "user_name": user, "origin": "uaa"}
        return {**common, **person, "grant_type": "password", **claims}

    def token(self, **claims: Any) -> str:
        """Sign an access token."""
        content = self.claims(**claims)
        token = self.forge(content)
        self.access_tokens[token] = content
        return token

    def refresh_token(self, **claims: Any) -> str:
        """Sign a refresh token: not to be taken for an access token."""
        expires = int(time.time()) + REFRESH_VALIDITY
        content = self.claims(**{"jti": f"{secrets.token_hex(16)}-r", "exp": expires, **claims})
        token = self.forge(content)
        self.refresh_tokens[token] = content
        return token

    def forge(self, claims: dict[str, Any], key: Optional[Key] = None, **header: Any) -> str:
        """Sign anything with any key under any header; ``alg="HS256"`` signs with the public key's text."""
        key = key or self.keys[0]
        head = {"alg": "RS256", "jku": f"{self.url}/token_keys", "kid": key.name, "typ": "JWT", **header}
        content = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        if head["alg"] == "HS256":
            signature = hmac.digest(key.pem, content.encode(), "sha256")
        elif head["alg"] == "none":
            signature = b""
        else:
            signature = key.sign(content.encode())
        return f"{content}.{b64(signature)}"

    def rotate(self) -> Key:
        """Sign with a new key from now on; the older one stays for a while."""
        self.keys = [Key(f"key-{secrets.token_hex(3)}"), self.keys[0]]
        return self.keys[0]

    # --- answers -----------------------------------------------------------

    def answer(self, asked: Asked) -> Answer:
        """Route a request."""
        if asked.path == "/token_keys":
            return self._token_keys(asked)
        if asked.path == "/token_key":
            return Answer(body=self.keys[0].public())
        if asked.path == "/oauth/token" and asked.method == "POST":
            return self._grant(asked)
        if asked.path == "/login" and asked.method == "GET":
            return Answer(body=self._login_page())
        if asked.path == "/introspect":
            return self._introspect(asked) if asked.method == "POST" else Answer(405)
        return oauth_error(404, "not_found", "no such endpoint")

    def _login_page(self) -> dict[str, Any]:
        """What ``cf login`` asks the user for."""
        return {
            "app": {"version": "77.31.0"},
            "commit_id": "0000000",
            "timestamp": "2026-01-01T00:00:00+0000",
            "zone_name": "uaa",
            "entityID": "login.sys.example.test",
            "idpDefinitions": {},
            "links": {"uaa": self.url, "login": self.url, "passwd": "/forgot_password"},
            "prompts": {
                "username": ["text", "Email"],
                "password": ["password", "Password"],
                "passcode": ["password", f"Temporary Authentication Code ( Get one at {self.url}/passcode )"],
            },
        }

    def _token_keys(self, asked: Asked) -> Answer:
        body = {"keys": [key.public() for key in self.keys]}
        tag = f'"{hashlib.sha256(json.dumps(body).encode()).hexdigest()[:13]}"'
        if asked.headers.get("if-none-match") == tag:
            return Answer(304, headers=(("ETag", tag),))
        return Answer(body=body, headers=(("ETag", tag),))

    def _grant(self, asked: Asked) -> Answer:
        client = self._client(asked)
        if client is None:
            return oauth_error(401, "unauthorized", "Bad credentials")
        grant = asked.form.get("grant_type", [""])[0]
        if grant == "client_credentials":
            scopes = self.authorities.get(client)
            own = {"scope": scopes, "aud": audience(scopes, client)} if scopes else {}
            return self._granted(self.token(client=client, user=None, **own), None)
        if grant == "password":
            return self._by_password(client, asked)
        given = asked.form.get("refresh_token", [""])[0]
        claims = self.refresh_tokens.get(given)
        if grant != "refresh_token" or claims is None or claims["client_id"] != client:
            return oauth_error(401, "invalid_token", "The token is not known, expired or was revoked")
        same = {name: claims[name] for name in ("scope", "aud")}
        if self.rotating:
            del self.refresh_tokens[given]
            given = self.refresh_token(client=client, user=claims["user_name"], **same)
        return self._granted(self.token(client=client, user=claims["user_name"], **same), given)

    def _by_password(self, client: str, asked: Asked) -> Answer:
        user, password = (asked.form.get(name, [""])[0] for name in ("username", "password"))
        if not password or self.passwords.get(user) != password:
            return oauth_error(401, "unauthorized", "Bad credentials")
        access = self.token(client=client, user=user)
        self.logged_in(user, access)
        return self._granted(access, self.refresh_token(client=client, user=user))

    def _granted(self, access: str, refresh: Optional[str]) -> Answer:
        body: dict[str, Any] = {
            "access_token": access,
            "token_type": "bearer",
            "expires_in": ACCESS_VALIDITY - 1,
            "scope": " ".join(self.access_tokens[access]["scope"]),
            "jti": self.access_tokens[access]["jti"],
        }
        return Answer(body={**body, "refresh_token": refresh} if refresh else body)

    def _introspect(self, asked: Asked) -> Answer:
        if self._client(asked) not in self.resources:
            return oauth_error(401, "unauthorized", "Bad credentials")
        token = asked.form.get("token", [""])[0]
        claims = self.access_tokens.get(token)
        if claims is None or token in self.revoked or claims["exp"] < time.time():
            return Answer(body={"active": False})
        return Answer(body={"active": True, **claims})

    def _client(self, asked: Asked) -> Optional[str]:
        """Whoever authenticates with HTTP Basic, or in the form."""
        scheme, _, encoded = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
        else:
            name, secret = asked.form.get("client_id", [""])[0], asked.form.get("client_secret", [""])[0]
        return name if self.clients.get(name) == secret else None
