"""What UAA gives to the CLIs, and when a token ends."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pcapd.clouds.tokens import expiry
from pcapd.clouds.uaa import Tokens, parse_tokens


def jwt(**claims: Any) -> str:
    """A token with these claims and no good signature."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{body}.c2ln"


def test_expiry() -> None:
    """The expiry of a JWT is read from its claims."""
    assert expiry(jwt(exp=1700000000)) == 1700000000.0


@pytest.mark.parametrize(
    "token", ["", "opaque", "a.b.c", "a..c", jwt(), jwt(exp="soon"), jwt(exp=None), jwt(exp=1e300), "ü.ü.ü"]
)
def test_no_expiry(token: str) -> None:
    """A token without a usable expiry is tried as it is."""
    assert expiry(token) is None


def test_answers_of_uaa() -> None:
    """The refresh token may be missing, the scheme is UAA's."""
    assert parse_tokens(b'{"access_token": "a", "token_type": "Bearer"}') == Tokens("a", "", "Bearer")
    assert parse_tokens(b'{"access_token": "a", "refresh_token": "r"}') == Tokens("a", "r", "bearer")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"access_token": ""}',
        b'{"access_token": 1}',
        b'{"access_token": "a b"}',
        b'{"access_token": "a\\r\\nX: y"}',
        b'{"access_token": "a", "refresh_token": 1}',
        b'{"access_token": "a", "refresh_token": "r\\n"}',
        b'{"access_token": "a", "token_type": ["bearer"]}',
    ],
)
def test_no_answers_of_uaa(body: bytes) -> None:
    """A UAA answer without a proper token is refused, so that nothing else reaches a header."""
    assert parse_tokens(body) is None
