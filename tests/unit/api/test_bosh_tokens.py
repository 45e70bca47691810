"""Tokens of UAA, real and forged: each attack on its own, with a key set that is right.

What an attack looks like to the whole api, over HTTPS, is in tests/hosts/test_bosh_api.py.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from pcapd.api import tokens
from pcapd.api.tokens import Issuer, Policy, key_id, parse_keys, same_url, verify
from pcapd.errors import ResolverUnavailable, Unauthenticated
from pcapd.limits import KEY_BITS, KEY_ID_MAX, KEYS_MAX, NAME_MAX, TOKEN_LEEWAY, TOKEN_MAX
from tests.doubles.uaa import Key, Uaa, b64

DIRECTOR = "7c1b3c1e-5f0c-4d6a-9a55-0d5a2f6f9f10"
POLICY = Policy(DIRECTOR)


class OfflineUaa(Uaa):
    """A UAA that signs and does not serve: its keys are given by hand."""

    url = "https://10.0.0.6:8443"

    def __init__(self) -> None:
        self.keys = [Key("key-1"), Key("key-2")]
        self.access_tokens, self.refresh_tokens = {}, {}


@pytest.fixture(scope="module")
def uaa() -> OfflineUaa:
    return OfflineUaa()


ISSUER = Issuer(OfflineUaa.url, ("https://uaa.bosh.example",))


def claims(uaa: Uaa, **changes: Any) -> dict[str, Any]:
    made = uaa.claims(client="bosh_cli", **{"scope": ["bosh.admin"], "aud": ["bosh", "bosh_cli"], **changes})
    return {name: value for name, value in made.items() if value is not ...}


def keys(uaa: Uaa) -> Any:
    return parse_keys(json.dumps({"keys": [key.public() for key in uaa.keys]}).encode())


def check(uaa: Uaa, token: str, policy: Policy = POLICY) -> tokens.Caller:
    """As the resolver does."""
    known = keys(uaa)
    name = key_id(token, ISSUER)
    if name not in known:
        raise tokens.unknown_key()
    return verify(token, known[name], ISSUER, policy)


def refused(uaa: Uaa, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        check(uaa, token)
    assert token not in str(caught.value)
    return caught.value.message


# --- what is accepted --------------------------------------------------------


def test_user(uaa: Uaa) -> None:
    """A token as UAA makes it for the BOSH CLI."""
    caller = check(uaa, uaa.forge(claims(uaa)))
    assert (caller.user, caller.scopes) == ("alice", frozenset({"bosh.admin"}))


def test_client(uaa: Uaa) -> None:
    """A client's own token has no user; the client is who it is."""
    made = uaa.claims(client="ci", user=None, scope=["bosh.admin"], aud=["bosh", "ci"])
    assert check(uaa, uaa.forge(made)).user == "ci"


def test_second_key(uaa: Uaa) -> None:
    assert check(uaa, uaa.forge(claims(uaa), uaa.keys[1])).user == "alice"


@pytest.mark.parametrize("algorithm", ["RS384", "RS512"])
def test_other_hashes(uaa: Uaa, algorithm: str) -> None:
    """UAA may be told to sign with a longer hash."""
    import jwt

    token = jwt.encode(
        claims(uaa), uaa.keys[0].private, algorithm, {"kid": "key-1", "jku": f"{uaa.url}/token_keys"}
    )
    assert check(uaa, token).user == "alice"


def test_other_name_of_uaa(uaa: Uaa) -> None:
    """UAA may call itself by any name that the director knows."""
    other = "https://uaa.bosh.example"
    token = uaa.forge(claims(uaa, iss=f"{other}/oauth/token"), jku=f"{other}/token_keys")
    assert check(uaa, token).user == "alice"


def with_header(uaa: Uaa, **header: str) -> str:
    """A good token with this header and nothing else in it."""
    content = f"{b64(json.dumps(header).encode())}.{uaa.forge(claims(uaa)).split('.')[1]}"
    return f"{content}.{b64(uaa.keys[0].sign(content.encode()))}"


def test_without_jku(uaa: Uaa) -> None:
    assert check(uaa, with_header(uaa, alg="RS256", kid="key-1")).user == "alice"


def test_clock_ahead(uaa: Uaa) -> None:
    """UAA's clock may be a little ahead."""
    soon = time.time() + TOKEN_LEEWAY / 2
    assert check(uaa, uaa.forge(claims(uaa, iat=int(soon), nbf=int(soon)))).user == "alice"


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        ({"user_name": "eve\x1b[2J\n"}, "eve?[2J?"),
        ({"user_name": "x" * 9999}, "x" * NAME_MAX),
        ({"user_name": ["eve"]}, "alice-id"),
        ({"user_name": ""}, "alice-id"),
        ({"user_name": None, "user_id": 7}, "bosh_cli"),
        ({"user_name": ..., "user_id": ..., "client_id": ...}, "unknown"),
    ],
)
def test_odd_user(uaa: Uaa, changes: dict[str, Any], user: str) -> None:
    """A user's name is made printable and short before anybody sees it; what is no name is none."""
    assert check(uaa, uaa.forge(claims(uaa, **changes))).user == user


# --- the attacks -------------------------------------------------------------


def test_no_algorithm(uaa: Uaa) -> None:
    assert "RS256" in refused(uaa, uaa.forge(claims(uaa), alg="none"))


@pytest.mark.parametrize("name", ["None", "NONE", "nOnE", "", None, 5, ["RS256"]])
def test_odd_algorithm(uaa: Uaa, name: Any) -> None:
    refused(uaa, uaa.forge(claims(uaa), alg=name))


def test_public_key_as_secret(uaa: Uaa) -> None:
    """HS256 with the public key's text as its secret."""
    assert "RS256" in refused(uaa, uaa.forge(claims(uaa), alg="HS256"))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "PS256", "ES256", "EdDSA"])
def test_other_algorithms(uaa: Uaa, algorithm: str) -> None:
    assert "RS256" in refused(uaa, uaa.forge(claims(uaa), alg=algorithm))


@pytest.mark.parametrize(
    "jku",
    [
        "https://evil.example/token_keys",
        "https://10.0.0.6:8443.evil.example/token_keys",
        "https://10.0.0.6:8443@evil.example/token_keys",
        "https://10.0.0.6:84430/token_keys",
        "https://10.0.0.6:8443/token_keys/../../evil",
        "https://10.0.0.6:8443/evil/token_keys",
        "https://10.0.0.6:8443/token_keys?x=https://evil.example",
        "https://10.0.0.6/token_keys",
        "http://10.0.0.6:8443/token_keys",
        "https://uaa.bosh.example.evil.example/token_keys",
        "https://[evil",
        "",
        7,
        None,
    ],
)
def test_keys_elsewhere(uaa: Uaa, jku: Any) -> None:
    """Wherever the token says that its key is: with an attacker's key and even with UAA's own."""
    evil = Key("key-1")
    assert "somewhere else" in refused(uaa, uaa.forge(claims(uaa), evil, jku=jku))
    assert "somewhere else" in refused(uaa, uaa.forge(claims(uaa), jku=jku))


def test_attackers_key(uaa: Uaa) -> None:
    """Signed by somebody else under the id of UAA's key; also with the key in the header."""
    evil = Key("key-1")
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), evil))
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), evil, jwk=evil.public()))
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), evil, x5u="https://evil.example/x"))


def test_other_keys_id(uaa: Uaa) -> None:
    """Signed with one of UAA's keys, under the id of the other."""
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), uaa.keys[1], kid="key-1"))


@pytest.mark.parametrize("kid", ["key-3", "../key-1", "", None, 1, "k" * (KEY_ID_MAX + 1)])
def test_unknown_key(uaa: Uaa, kid: Any) -> None:
    refused(uaa, uaa.forge(claims(uaa), kid=kid))


@pytest.mark.parametrize("kid", ["", None, 1, ["key-1"], {}, "k" * (KEY_ID_MAX + 1)])
def test_what_can_be_no_key_id(uaa: Uaa, kid: Any) -> None:
    """It is refused before anybody looks for such a key."""
    with pytest.raises(Unauthenticated):
        key_id(uaa.forge(claims(uaa), kid=kid), ISSUER)


def test_no_key_id(uaa: Uaa) -> None:
    """Which key might have signed it is not tried out."""
    assert "does not say which" in refused(uaa, with_header(uaa, alg="RS256"))


def test_critical_header(uaa: Uaa) -> None:
    """What a header calls critical, and we do not know, ends it (RFC 7515, section 4.1.11)."""
    refused(uaa, uaa.forge(claims(uaa), crit=["exp2"], exp2=1))


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_changed(uaa: Uaa, changed: int) -> None:
    """One bit of any part."""
    parts = uaa.forge(claims(uaa)).split(".")
    at = len(parts[changed]) // 2
    other = "A" if parts[changed][at] != "A" else "B"
    parts[changed] = parts[changed][:at] + other + parts[changed][at + 1 :]
    refused(uaa, ".".join(parts))


@pytest.mark.parametrize("seconds", [1, 60, 86400])
def test_expired(uaa: Uaa, seconds: int) -> None:
    """No grace: not even within what clocks may differ."""
    assert refused(uaa, uaa.forge(claims(uaa, exp=int(time.time()) - seconds))) == "the token has expired"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_not_yet_valid(uaa: Uaa, claim: str) -> None:
    token = uaa.forge(claims(uaa, **{claim: int(time.time() + TOKEN_LEEWAY + 60)}))
    assert refused(uaa, token) == "the token is not valid yet"


@pytest.mark.parametrize(
    "audience",
    [
        ["cloud_controller", "cf"],
        "cloud_controller",
        [],
        ["bosh2"],
        ["bosh.other-director"],
        [7],
        {"bosh": 1},
    ],
)
def test_wrong_audience(uaa: Uaa, audience: Any) -> None:
    """Also with a scope that would allow it."""
    assert "not meant for BOSH" in refused(uaa, uaa.forge(claims(uaa, aud=audience)))


@pytest.mark.parametrize(
    "issuer",
    [
        "https://uaa.cf.example/oauth/token",
        "https://10.0.0.6:8443.evil.example/oauth/token",
        "https://10.0.0.6:8443/oauth/token/",
        "https://10.0.0.6:8443",
        "http://10.0.0.6:8443/oauth/token",
    ],
)
def test_wrong_issuer(uaa: Uaa, issuer: Any) -> None:
    assert "another UAA" in refused(uaa, uaa.forge(claims(uaa, iss=issuer)))


def test_refresh_token(uaa: Uaa) -> None:
    """It is signed well, and has the scopes; its jti tells."""
    token = uaa.refresh_token(client="bosh_cli", scope=["bosh.admin"], aud=["bosh", "bosh_cli"])
    assert "refresh token" in refused(uaa, token)


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "jti"])
def test_missing_claim(uaa: Uaa, missing: str) -> None:
    refused(uaa, uaa.forge(claims(uaa, **{missing: ...})))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("exp", "soon"),
        ("exp", 1e400),
        ("exp", None),
        ("exp", []),
        ("nbf", "x"),
        ("iat", {}),
        ("jti", 5),
        ("iss", 5),
        ("iss", ["https://10.0.0.6:8443/oauth/token"]),
    ],
)
def test_odd_claim(uaa: Uaa, claim: str, value: Any) -> None:
    refused(uaa, uaa.forge(claims(uaa, **{claim: value})))


@pytest.mark.parametrize(
    "token",
    ["x", "a.b", "a.b.c", "..", "e30.e30.", "bnVsbA.e30.eA", "W10.e30.eA", "a" * 40, "e30" + "." * 9],
)
def test_no_token(uaa: Uaa, token: str) -> None:
    """Opaque tokens of UAA too: they cannot be checked here."""
    refused(uaa, token)


def test_deep_token(uaa: Uaa) -> None:
    """JSON nested beyond what the reader bears."""
    deep = b64(b"[" * 6000)
    refused(uaa, f"{deep}.e30.eA")
    head = uaa.forge(claims(uaa)).split(".", maxsplit=1)[0]
    content = f"{head}.{deep}"
    refused(uaa, f"{content}.{b64(uaa.keys[0].sign(content.encode()))}")


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "ä", "a\x00b", "x" * (TOKEN_MAX + 1)])
def test_form(token: str) -> None:
    """What must not become a header."""
    with pytest.raises(Unauthenticated):
        tokens.check_form(token)


# --- scopes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "teams", "allowed"),
    [
        (["bosh.admin"], [], True),
        ([f"bosh.{DIRECTOR}.admin"], [], True),
        (["bosh.teams.blue.admin"], ["blue"], True),
        (["bosh.teams.blue.admin"], ["red", "blue"], True),
        (["bosh.teams.blue.admin"], ["red"], False),
        (["bosh.teams.blue.admin"], [], False),
        (["bosh.teams.blue.read"], ["blue"], False),
        (["bosh.teams.blue.admin.extra"], ["blue"], False),
        (["bosh.read"], ["blue"], False),
        ([f"bosh.{DIRECTOR}.read"], [], False),
        (["bosh.other-director.admin"], [], False),
        (["bosh.admin2", "xbosh.admin", "BOSH.ADMIN"], [], False),
        (["openid"], ["blue"], False),
        ([], ["blue"], False),
    ],
)
def test_admin(scopes: list[str], teams: list[str], allowed: bool) -> None:
    assert POLICY.allows(tokens.Caller("alice", frozenset(scopes)), teams) is allowed


def test_scope_text(uaa: Uaa) -> None:
    """Scopes are a list; one text with spaces is one scope that nobody has."""
    assert not POLICY.allows(check(uaa, uaa.forge(claims(uaa, scope="openid bosh.admin"))))
    assert not POLICY.allows(check(uaa, uaa.forge(claims(uaa, scope=...))))
    assert not POLICY.allows(check(uaa, uaa.forge(claims(uaa, scope={"bosh.admin": 1}))))


def test_token_scope(uaa: Uaa) -> None:
    """A configured scope decides alone: who is an admin without it may not, who has it need be no admin."""
    policy = Policy(DIRECTOR, "pcap.capture")
    token = uaa.forge(claims(uaa, scope=["pcap.capture"], aud=["pcap", "some_client"]))
    assert policy.allows(check(uaa, token, policy))
    for scopes in (["bosh.admin"], ["bosh.teams.blue.admin"], ["pcap"], ["pcap.capture2"]):
        caller = tokens.Caller("alice", frozenset(scopes))
        assert not policy.allows(caller, ["blue"]) and not policy.depends_on_teams(caller)


def test_whom_teams_help() -> None:
    """Only who is the admin of a team is worth a question about teams."""
    for scopes, helped in ((["bosh.teams.blue.admin"], True), (["bosh.teams.blue.read", "bosh.read"], False)):
        assert POLICY.depends_on_teams(tokens.Caller("alice", frozenset(scopes))) is helped


def test_forbidden_words() -> None:
    """Whose it is and what it takes; nothing about whether the deployment exists."""
    error = POLICY.forbidden(tokens.Caller("eve", frozenset()), "cf")
    assert "eve" in error.message and "cf" in error.message and "bosh.admin" in error.hint


# --- keys --------------------------------------------------------------------


def test_keys(uaa: Uaa) -> None:
    assert sorted(keys(uaa)) == ["key-1", "key-2"]


@pytest.mark.parametrize(
    "changes",
    [{"kty": "EC"}, {"kty": "oct", "value": "c2VjcmV0"}, {"use": "enc"}],
    ids=["curve", "secret", "encryption"],
)
def test_other_kinds_of_keys(uaa: Uaa, changes: dict[str, str]) -> None:
    """They are left out: nothing is verified with them."""
    entries = [uaa.keys[0].public(), {**uaa.keys[1].public(), **changes}]
    assert list(parse_keys(json.dumps({"keys": entries}).encode())) == ["key-1"]


def test_short_key() -> None:
    """A key that could be broken is none."""
    body = json.dumps({"keys": [Key("weak", 1024).public()]}).encode()
    assert parse_keys(body) == {}


@pytest.mark.parametrize(("bits", "known"), [(KEY_BITS[1], ["key-1"]), (KEY_BITS[1] + 8, [])])
def test_long_key(uaa: Uaa, bits: int, known: list[str]) -> None:
    """Nor is one whose use takes so long that tokens could keep the api busy."""
    # Whether it is a product of primes is nothing that a reader could see.
    number = b64(((1 << (bits - 1)) + 1).to_bytes(bits // 8, "big"))
    body = json.dumps({"keys": [{**uaa.keys[0].public(), "n": number}]}).encode()
    assert list(parse_keys(body)) == known


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [7]}',
        b'{"keys": [{"kty": "RSA"}]}',
        b'{"keys": [{"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"}]}',
        b'{"keys": [{"kty": "RSA", "kid": "k", "n": "AQAB", "e": 5}]}',
        b'{"keys": ' + b"[" * 6000,
    ],
)
def test_nonsense_keys(body: bytes) -> None:
    with pytest.raises(ResolverUnavailable):
        parse_keys(body)


@pytest.mark.parametrize(
    "changes",
    [{"kid": ""}, {"kid": "k" * (KEY_ID_MAX + 1)}, {"kid": ["key-1"]}, {"n": "_" * (2 * KEY_BITS[1] + 4)}],
    ids=["no id", "long id", "odd id", "long number"],
)
def test_keys_that_cannot_be(uaa: Uaa, changes: dict[str, Any]) -> None:
    """One such entry, and nothing of the answer is believed; a number of any length is not even computed."""
    entries = [uaa.keys[0].public(), {**uaa.keys[1].public(), **changes}]
    with pytest.raises(ResolverUnavailable):
        parse_keys(json.dumps({"keys": entries}).encode())


def test_key_named_twice(uaa: Uaa) -> None:
    """Which of them counts is not ours to guess."""
    entries = [uaa.keys[0].public(), {**uaa.keys[1].public(), "kid": "key-1"}]
    with pytest.raises(ResolverUnavailable):
        parse_keys(json.dumps({"keys": entries}).encode())


def test_many_keys(uaa: Uaa) -> None:
    body = json.dumps({"keys": [uaa.keys[0].public()] * (KEYS_MAX + 1)}).encode()
    with pytest.raises(ResolverUnavailable, match=str(KEYS_MAX)):
        parse_keys(body)


# --- addresses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://uaa.example/x", "https://uaa.example:443/x", True),
        ("https://UAA.example/x", "https://uaa.example/x", True),
        ("https://uaa.example/x", "https://uaa.example/X", False),
        ("https://uaa.example/x", "https://uaa.example.evil/x", False),
        ("https://uaa.example/x", "https://uaa.example/x/y", False),
        ("https://uaa.example/x", "https://uaa.example:8443/x", False),
        ("http://uaa.example/x", "http://uaa.example/x", False),
        ("https://u@uaa.example/x", "https://u@uaa.example/x", False),
        ("https://uaa.example/x?y", "https://uaa.example/x?y", False),
        ("https://uaa.example/x#y", "https://uaa.example/x#y", False),
        ("https://uaa.example\\@evil/x", "https://uaa.example\\@evil/x", False),
        ("https://uaa.example:99999/", "https://uaa.example:99999/", False),
        ("https:///x", "https:///x", False),
        ("https://:443/x", "https://:443/x", False),
        ("https://uaa.example/a\\b", "https://uaa.example/a\\b", False),
        ("", "", False),
    ],
)
def test_same_url(one: str, other: str, same: bool) -> None:
    assert same_url(one, other) is same
