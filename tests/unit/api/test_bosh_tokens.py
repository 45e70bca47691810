"""Tokens of UAA, real and forged: each attack on its own, with a key set that is right.

What an attack looks like to the whole api, over HTTPS, is in tests/hosts/test_bosh_api.py.
"""

from __future__ import annotations

import json
import time
from typing import Any, Iterable

import pytest

from pcapd.api.resolvers import tokens
from pcapd.api.resolvers.tokens import ScopeRule, key_id, parse_keys, verify
from pcapd.clouds.tokens import Issuer, TokenOwner, check_form, owner_of, same_url
from pcapd.errors import ResolverUnavailable, Unauthenticated
from pcapd.limits import KEY_BITS, KEY_ID_MAX, KEYS_MAX, NAME_MAX, TOKEN_LEEWAY, TOKEN_MAX
from tests.kit.doubles.uaa import Key, Uaa, b64

DIRECTOR = "7c1b3c1e-5f0c-4d6a-9a55-0d5a2f6f9f10"
POLICY = ScopeRule(DIRECTOR)


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


def listed(*entries: Any) -> bytes:
    """UAA's answer with these keys."""
    return json.dumps({"keys": entries}).encode()


def keys(uaa: Uaa) -> Any:
    return parse_keys(listed(*(key.public() for key in uaa.keys)))[0]


def caller(scopes: Iterable[str], user: str = "alice") -> TokenOwner:
    return TokenOwner(user, frozenset(scopes), f"bosh:{user}")


def check(uaa: Uaa, token: str, policy: ScopeRule = POLICY) -> TokenOwner:
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
    """A token as UAA issues it for the BOSH CLI gives its user."""
    caller = check(uaa, uaa.forge(claims(uaa)))
    assert (caller.user, caller.scopes) == ("alice", frozenset({"bosh.admin"}))


def test_client(uaa: Uaa) -> None:
    """A client's own token has no user; the client is who it is."""
    made = uaa.claims(client="ci", user=None, scope=["bosh.admin"], aud=["bosh", "ci"])
    assert check(uaa, uaa.forge(made)).user == "ci"


def test_second_key(uaa: Uaa) -> None:
    """A token signed by UAA's second key is accepted."""
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
    """A token without a jku header is accepted."""
    assert check(uaa, with_header(uaa, alg="RS256", kid="key-1")).user == "alice"


def test_clock_ahead(uaa: Uaa) -> None:
    """A token issued slightly in the future, by UAA's clock, is accepted."""
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


@pytest.mark.parametrize("name", ["None", "NONE", "nOnE", "", None, 5, ["RS256"]])
def test_odd_algorithm(uaa: Uaa, name: Any) -> None:
    """A token with an odd algorithm is refused."""
    refused(uaa, uaa.forge(claims(uaa), alg=name))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "HS512", "PS256", "ES256", "EdDSA"])
def test_other_algorithms(uaa: Uaa, algorithm: str) -> None:
    """A token of another algorithm is refused: unsigned, or by HS256 with the public key's text as its secret."""
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
    """A token that names another place for its key is refused, even when UAA's own key signed it."""
    evil = Key("key-1")
    assert "key address other than UAA's" in refused(uaa, uaa.forge(claims(uaa), evil, jku=jku))
    assert "key address other than UAA's" in refused(uaa, uaa.forge(claims(uaa), jku=jku))


def test_attackers_key(uaa: Uaa) -> None:
    """A token signed by another key under UAA's key id is refused, also with that key in the header."""
    evil = Key("key-1")
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), evil))
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), evil, jwk=evil.public()))
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), evil, x5u="https://evil.example/x"))


def test_other_keys_id(uaa: Uaa) -> None:
    """A token signed with one of UAA's keys under the id of another is refused."""
    assert "not UAA's" in refused(uaa, uaa.forge(claims(uaa), uaa.keys[1], kid="key-1"))


@pytest.mark.parametrize("kid", ["key-3", "../key-1", "", None, 1, "k" * (KEY_ID_MAX + 1)])
def test_unknown_key(uaa: Uaa, kid: Any) -> None:
    """A token with an unknown key id is refused."""
    refused(uaa, uaa.forge(claims(uaa), kid=kid))


@pytest.mark.parametrize("kid", ["", None, 1, ["key-1"], {}, "k" * (KEY_ID_MAX + 1)])
def test_what_can_be_no_key_id(uaa: Uaa, kid: Any) -> None:
    """An impossible key id is refused before a key is looked up."""
    with pytest.raises(Unauthenticated):
        key_id(uaa.forge(claims(uaa), kid=kid), ISSUER)


def test_no_key_id(uaa: Uaa) -> None:
    """A token without a key id is refused without trying keys."""
    assert "does not name the UAA key" in refused(uaa, with_header(uaa, alg="RS256"))


def test_critical_header(uaa: Uaa) -> None:
    """An unknown critical header refuses the token (RFC 7515, section 4.1.11)."""
    refused(uaa, uaa.forge(claims(uaa), crit=["exp2"], exp2=1))


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_changed(uaa: Uaa, changed: int) -> None:
    """A token with one changed bit, in any part, is refused."""
    parts = uaa.forge(claims(uaa)).split(".")
    at = len(parts[changed]) // 2
    other = "A" if parts[changed][at] != "A" else "B"
    parts[changed] = parts[changed][:at] + other + parts[changed][at + 1 :]
    refused(uaa, ".".join(parts))


@pytest.mark.parametrize("seconds", [1, 60, 86400])
def test_expired(uaa: Uaa, seconds: int) -> None:
    """An expired token is refused without any leeway."""
    assert refused(uaa, uaa.forge(claims(uaa, exp=int(time.time()) - seconds))) == "the token has expired"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_not_yet_valid(uaa: Uaa, claim: str) -> None:
    """A token that is not valid yet is refused."""
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
    """A token for another audience is refused, also with a sufficient scope."""
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
    """A token of another issuer is refused."""
    assert "another UAA" in refused(uaa, uaa.forge(claims(uaa, iss=issuer)))


def test_refresh_token(uaa: Uaa) -> None:
    """A refresh token is refused by its jti, although signature and scopes are good."""
    token = uaa.refresh_token(client="bosh_cli", scope=["bosh.admin"], aud=["bosh", "bosh_cli"])
    assert "refresh token" in refused(uaa, token)


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "jti"])
def test_missing_claim(uaa: Uaa, missing: str) -> None:
    """A token without a required claim is refused."""
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
    """A token whose claim has a wrong type is refused."""
    refused(uaa, uaa.forge(claims(uaa, **{claim: value})))


@pytest.mark.parametrize(
    "token",
    ["x", "a.b", "a.b.c", "..", "e30.e30.", "bnVsbA.e30.eA", "W10.e30.eA", "a" * 40, "e30" + "." * 9],
)
def test_no_token(uaa: Uaa, token: str) -> None:
    """Opaque tokens and other text that is not a JWT are refused."""
    refused(uaa, token)


def test_deep_token(uaa: Uaa) -> None:
    """A token with JSON nested beyond the reader's limit is refused."""
    deep = b64(b"[" * 6000)
    refused(uaa, f"{deep}.e30.eA")
    head = uaa.forge(claims(uaa)).split(".", maxsplit=1)[0]
    content = f"{head}.{deep}"
    refused(uaa, f"{content}.{b64(uaa.keys[0].sign(content.encode()))}")


def unsigned(header: Any, claims: Any) -> str:
    """A token whose signature is none; bytes are not made JSON."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return f"{b64(parts[0])}.{b64(parts[1])}.c2ln"


HEADER = {"alg": "RS256"}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        *((token, "characters") for token in ("", "a b", "a\r\nX-Evil: 1", "ä", "a\x00b", "x" * (TOKEN_MAX + 1))),
        *((token, "not a JWT") for token in ("opaque", "a" * 32, "a.b", "a.b.c", "..", "e30.e30", "e30.e30.e30.e30")),
        *((token, "not a JWT") for token in ("e30=.e30.eA", "e30.e3+.eA", "e30.e.eA", "bnVsbA.e30.eA", "e30.W10.eA")),
        (unsigned(HEADER, b"[" * 6000), "not a JWT"),
        (unsigned(HEADER, b'{"exp": "\xff"}'), "not a JWT"),
        (unsigned(HEADER, {}), "no expiry time"),
        *((unsigned(HEADER, {"exp": exp}), "no expiry time") for exp in (None, "4e9", True, [4e9], 10**400)),
        *((unsigned(HEADER, b'{"exp": %s}' % exp), "no expiry time") for exp in (b"1e999", b"NaN", b"-Infinity")),
        *((unsigned(HEADER, {"exp": exp}), "has expired") for exp in (0, -1, 1e9)),
    ],
)  # fmt: skip
def test_form(token: str, words: str) -> None:
    """A token of the wrong form is refused with a hint, and not repeated."""
    with pytest.raises(Unauthenticated, match=words) as caught:
        check_form(token, time.time(), "log in again: cf login")
    assert caught.value.hint == "log in again: cf login"
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("header", [HEADER, {}, {"alg": "none"}])
def test_form_of_a_token(header: Any) -> None:
    """For Cloud Controller only the form of a token is checked."""
    made = unsigned(header, {"exp": time.time() + 60.5, "user_name": "eve"})
    assert check_form(made, time.time())["user_name"] == "eve"
    assert check_form(made.rpartition(".")[0] + ".", time.time())["user_name"] == "eve"


@pytest.mark.parametrize(("leeway", "expired"), [(0.0, True), (TOKEN_LEEWAY, False)])
def test_leeway_of_the_form(leeway: float, expired: bool) -> None:
    """Our clock may be ahead of the one that decides; where we decide there is no grace."""
    made = unsigned(HEADER, {"exp": time.time() - TOKEN_LEEWAY / 2})
    try:
        check_form(made, time.time(), leeway=leeway)
    except Unauthenticated:
        assert expired
    else:
        assert not expired


# --- whose it is -------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"user_name": "alice", "user_id": "u", "client_id": "cf"}, "alice"),
        ({"user_id": "u-1", "client_id": "cf"}, "u-1"),
        ({"client_id": "robot"}, "robot"),
        ({"user_name": "", "client_id": "robot"}, "robot"),
        ({"user_name": ["x"], "user_id": 7}, "unknown"),
        ({"user_name": "eve\n{x}"}, "eve?{x}"),
        ({"user_name": "x" * 9999}, "x" * NAME_MAX),
        ({"user_name": "\ud800"}, "?"),
        ({}, "unknown"),
    ],
)
def test_names(claims: dict[str, Any], name: str) -> None:
    """The name for people: a user's, else a client's, always printable; the identity is never empty."""
    found = owner_of(claims, "cloud_foundry", "")
    assert found.user == name
    assert found.identity.isascii() and found.identity.startswith("cloud_foundry:")


#: Different people and programs, some of whom try to look like others.
PEOPLE: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("bosh", "uuid", "https://uaa"), {"user_id": "1", "user_name": "alice", "origin": "uaa"}),
    (("bosh", "uuid-2", "https://uaa"), {"user_id": "1", "user_name": "alice", "origin": "uaa"}),
    (("cloud_foundry", "https://uaa"), {"user_id": "1", "user_name": "alice", "origin": "uaa"}),
    (("cloud_foundry", "https://uaa"), {"user_id": "2", "user_name": "alice", "origin": "ldap"}),
    (("cloud_foundry", "https://uaa"), {"user_id": "1", "user_name": "alice", "origin": "ldap"}),
    (("cloud_foundry", "https://uaa"), {"user_id": "ldap:1", "user_name": "alice"}),
    (("cloud_foundry", "https://other"), {"user_id": "1", "user_name": "alice", "origin": "uaa"}),
    (("cloud_foundry", "https://uaa"), {"client_id": "1"}),
    (("cloud_foundry", "https://uaa"), {"client_id": "user:uaa:1"}),
    (("cloud_foundry", "https://uaa"), {"user_id": "1\ud800", "origin": "uaa"}),
]


def test_identities() -> None:
    """Identities differ whatever the names are; a new name or client program does not change one."""
    assert len({owner_of(claims, *realm).identity for realm, claims in PEOPLE}) == len(PEOPLE)
    realm, claims = PEOPLE[2]
    renamed = {**claims, "user_name": "alison", "client_id": "other"}
    assert owner_of(renamed, *realm).identity == owner_of(claims, *realm).identity


def test_origin() -> None:
    """The origin of a token is the user's, in printable text."""
    made = {"user_id": "1", "client_id": "cf", "origin": "ldap\n"}
    assert owner_of(made, "bosh").origin == "ldap?"
    assert owner_of({"client_id": "cf", "origin": "ldap"}, "bosh").origin == ""


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
    """The scopes and teams that allow a capture are exactly those of the table."""
    assert POLICY.allows(caller(scopes), teams) is allowed


def test_scope_text(uaa: Uaa) -> None:
    """A scope claim that is one text with spaces is one scope, which no user has."""
    assert not POLICY.allows(check(uaa, uaa.forge(claims(uaa, scope="openid bosh.admin"))))
    assert not POLICY.allows(check(uaa, uaa.forge(claims(uaa, scope=...))))
    assert not POLICY.allows(check(uaa, uaa.forge(claims(uaa, scope={"bosh.admin": 1}))))


def test_token_scope(uaa: Uaa) -> None:
    """A configured scope decides alone: who is an admin without it may not, who has it need be no admin."""
    policy = ScopeRule(DIRECTOR, "pcap.capture")
    token = uaa.forge(claims(uaa, scope=["pcap.capture"], aud=["pcap", "some_client"]))
    assert policy.allows(check(uaa, token, policy))
    for scopes in (["bosh.admin"], ["bosh.teams.blue.admin"], ["pcap"], ["pcap.capture2"]):
        admin = caller(scopes)
        assert not policy.allows(admin, ["blue"]) and not policy.depends_on_teams(admin)


def test_whom_teams_help() -> None:
    """Teams are looked up only for users who are a team's admin."""
    for scopes, helped in ((["bosh.teams.blue.admin"], True), (["bosh.teams.blue.read", "bosh.read"], False)):
        assert POLICY.depends_on_teams(caller(scopes)) is helped


def test_forbidden_words() -> None:
    """The refusal names the deployment and the needed rights, not whether the deployment exists."""
    error = POLICY.forbidden(caller((), "eve"), "cf")
    assert "eve" in error.message and "cf" in error.message and "bosh.admin" in error.hint


# --- keys --------------------------------------------------------------------


def test_keys(uaa: Uaa) -> None:
    """All RSA keys of UAA's answer are used, by their ids."""
    assert sorted(keys(uaa)) == ["key-1", "key-2"]


@pytest.mark.parametrize(
    "changes",
    [{"kty": "EC"}, {"kty": "oct", "value": "c2VjcmV0"}, {"use": "enc"}],
    ids=["curve", "secret", "encryption"],
)
def test_other_kinds_of_keys(uaa: Uaa, changes: dict[str, str]) -> None:
    """Keys of other kinds are left out, and verify nothing."""
    entries = [uaa.keys[0].public(), {**uaa.keys[1].public(), **changes}]
    known, problems = parse_keys(listed(*entries))
    assert (list(known), problems) == (["key-1"], ())


def test_short_key() -> None:
    """A key that is too short to be safe is left out."""
    assert parse_keys(listed(Key("weak", 1024).public())) == ({}, ())


@pytest.mark.parametrize(("bits", "known"), [(KEY_BITS[1], ["key-1"]), (KEY_BITS[1] + 8, [])])
def test_long_key(uaa: Uaa, bits: int, known: list[str]) -> None:
    """A key too long to verify quickly is left out."""
    # Whether it is a product of primes is nothing that a reader could see.
    number = b64(((1 << (bits - 1)) + 1).to_bytes(bits // 8, "big"))
    assert list(parse_keys(listed({**uaa.keys[0].public(), "n": number}))[0]) == known


#: Entries that cannot be read; the last one has a number of such a length that it is not even computed.
UNREADABLE: list[Any] = [
    7,
    {"kty": "RSA"},
    {"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"},
    {"kty": "RSA", "kid": "k", "n": "AQAB", "e": 5},
    {"kty": "RSA", "kid": "", "n": "AQAB", "e": "AQAB"},
    {"kty": "RSA", "kid": "k" * (KEY_ID_MAX + 1), "n": "AQAB", "e": "AQAB"},
    {"kty": "RSA", "kid": ["k"], "n": "AQAB", "e": "AQAB"},
    {"kty": "RSA", "kid": "k", "n": "_" * (2 * KEY_BITS[1] + 4), "e": "AQAB"},
]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": ' + b"[" * 6000,
        *(listed(entry) for entry in UNREADABLE),
    ],
)
def test_nonsense_keys(body: bytes) -> None:
    """A key list that is not one makes the resolver unavailable."""
    with pytest.raises(ResolverUnavailable):
        parse_keys(body)


@pytest.mark.parametrize("entry", UNREADABLE)
def test_a_key_that_cannot_be_read(uaa: Uaa, entry: Any) -> None:
    """A key that cannot be read is left out and named by its place; the others are used."""
    known, problems = parse_keys(listed(entry, *(key.public() for key in uaa.keys)))
    assert (sorted(known), problems) == (["key-1", "key-2"], ("key 1 cannot be read",))


def test_key_named_twice(uaa: Uaa) -> None:
    """Keys that share an id are left out; the others are used."""
    twins = [key.public() | {"kid": "a\x1bb"} for key in uaa.keys]
    with pytest.raises(ResolverUnavailable):
        parse_keys(listed(*twins))
    known, problems = parse_keys(listed(*twins, uaa.keys[0].public()))
    assert (list(known), problems) == (["key-1"], ("2 keys have the id a?b",))


def test_many_keys(uaa: Uaa) -> None:
    """More keys than the bound make the resolver unavailable."""
    with pytest.raises(ResolverUnavailable, match=str(KEYS_MAX)):
        parse_keys(listed(*[uaa.keys[0].public()] * (KEYS_MAX + 1)))


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
    """Two URLs are the same when both are proper https URLs of equal host, port and path."""
    assert same_url(one, other) is same
