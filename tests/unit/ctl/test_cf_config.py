"""The cf CLI's configuration: what is read from it, what is refused, and what new tokens change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.clouds.uaa import LoginProblem, Tokens
from pcapd.ctl.login.cfconfig import (
    Login,
    config_path,
    grant_for,
    is_guid,
    list_parameter,
    parse_login,
    pcap_of_api,
    with_tokens,
)


def config(**changes: Any) -> str:
    """A configuration as the cf CLI 8 writes it; a change to None removes the key."""
    values = {
        "AccessToken": "bearer old.access.token",
        "APIVersion": "3.228.0",
        "AuthorizationEndpoint": "https://login.sys.example.test",
        "ConfigVersion": 4,
        "OrganizationFields": {"GUID": "org-guid", "Name": "acme"},
        "RefreshToken": "old-refresh",
        "SpaceFields": {"GUID": "space-guid", "Name": "dev", "AllowSSH": True},
        "SSLDisabled": False,
        "Target": "https://api.sys.example.test",
        "UaaEndpoint": "https://uaa.sys.example.test",
        "UAAGrantType": "",
        "UAAOAuthClient": "cf",
        "UAAOAuthClientSecret": "",
        **changes,
    }
    return json.dumps({key: value for key, value in values.items() if value is not None}, indent=2)


def problem(text: str) -> str:
    """What is said about a configuration that cannot be used."""
    with pytest.raises(LoginProblem) as caught:
        parse_login(text)
    return str(caught.value)


# --- reading ------------------------------------------------------------------


def test_path() -> None:
    """CF_HOME stands for the home directory, as in the cf CLI."""
    assert config_path({"HOME": "/h"}) == Path("/h/.cf/config.json")
    assert config_path({"HOME": "/h", "CF_HOME": "/c"}) == Path("/c/.cf/config.json")
    assert config_path({"HOME": "/h", "CF_HOME": ""}) == Path("/h/.cf/config.json")
    with pytest.raises(LoginProblem, match="CF_HOME"):
        config_path({})


def test_whole() -> None:
    """Every field that pcapctl uses is read from the file."""
    assert parse_login(config(SSLDisabled=True)) == Login(
        target="https://api.sys.example.test",
        authorization_endpoint="https://login.sys.example.test",
        access_token="old.access.token",
        refresh_token="old-refresh",
        client="cf",
        org="acme",
        space="dev",
        space_guid="space-guid",
        ssl_disabled=True,
    )


@pytest.mark.parametrize("token", ["bearer abc", "Bearer abc", "BEARER abc", "abc"])
def test_scheme_is_taken_off(token: str) -> None:
    """The cf CLI stores the scheme with the token; the api is shown the token with one scheme."""
    assert parse_login(config(AccessToken=token)).access_token == "abc"


def test_endpoint_falls_back() -> None:
    """Without an AuthorizationEndpoint UAA itself is asked."""
    login = parse_login(config(AuthorizationEndpoint=None))
    assert login.authorization_endpoint == "https://uaa.sys.example.test"


def test_missing_and_null_fields() -> None:
    """Only the target and some token are needed; Go writes null for empty objects."""
    login = parse_login(
        '{"ConfigVersion": 4, "Target": "https://api.x", "RefreshToken": "r", "SpaceFields": null}'
    )
    assert (login.space_guid, login.client, login.ssl_disabled) == ("", "cf", False)


@pytest.mark.parametrize(
    "kept",
    [{"AccessToken": "bearer a"}, {"RefreshToken": "r"}, {"UAAGrantType": "client_credentials"}],
    ids=["access token", "refresh token", "client"],
)
def test_one_way_to_log_in_is_enough(kept: dict[str, str]) -> None:
    """A login with any one kind of token or client is accepted."""
    parse_login(config(**{"AccessToken": "", "RefreshToken": "", **kept}))


@pytest.mark.parametrize(
    ("text", "says", "helps"),
    [
        ("", "not JSON", "cf login"),
        ('{"ConfigVersion": 4', "not JSON", "cf login"),
        ("[" * 100_000, "not JSON", "cf login"),
        ("[]", "not a JSON object", "cf login"),
        ("{}", "version none", "cf login"),
        (config(ConfigVersion=3), "version 3", "cf login"),
        (config(Target=""), "no api", "cf login -a"),
        (config(Target="api.sys.example.test"), "not an https URL", "cf login -a"),
        (config(Target="http://api.sys.example.test"), "in clear", "cf login -a"),
        (config(Target="https://user@api.sys.example.test"), "not an https URL", "cf login -a"),
        (config(Target="https://:word@api.sys.example.test"), "not an https URL", "cf login -a"),
        (config(Target="https://api:port"), "not an https URL", "cf login -a"),
        (config(Target="ftp://api"), "not an https URL", "cf login -a"),
        (config(Target="https://api\x7f.example.test"), "not an https URL", "cf login -a"),
        (config(AccessToken="", RefreshToken=""), "not logged in", "cf login"),
        (config(AccessToken=None, RefreshToken=None), "not logged in", "cf login"),
        (config(AccessToken=5), "AccessToken", "cf login"),
        (config(AccessToken="bearer two words"), "AccessToken", "cf login"),
        (config(AccessToken="bearer a\r\nX-Evil: 1"), "AccessToken", "cf login"),
        (config(RefreshToken="r\n"), "RefreshToken", "cf login"),
        (config(Target=["x"]), "Target", "cf login"),
    ],
)
def test_refused(text: str, says: str, helps: str) -> None:
    """An unusable file is refused with the command that helps, without quoting a token."""
    words = problem(text)
    assert says in words
    assert helps in words
    assert "old" not in words
    assert "Evil" not in words


@pytest.mark.parametrize("target", ["http://localhost:8080", "http://127.0.0.1", "http://[::1]:80"])
def test_loopback_may_be_clear(target: str) -> None:
    """An http address of this machine is accepted."""
    assert parse_login(config(Target=target)).target == target


def test_repr_holds_no_secret() -> None:
    """The representation of a login, as in a traceback, holds no secret."""
    login = parse_login(config(UAAOAuthClientSecret="sesame"))
    assert "old" not in repr(login)
    assert "sesame" not in repr(login)


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_garbage_is_refused_in_words(text: str) -> None:
    """Any content of the file is a login or a `LoginProblem`."""
    problem(text)


# --- names and addresses ------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "api"),
    [
        ("https://api.sys.example.test", "https://pcap.sys.example.test"),
        ("https://API.sys.example.test", "https://pcap.sys.example.test"),
        ("https://api.sys.example.test:8443", "https://pcap.sys.example.test:8443"),
        ("https://sys.example.test", None),
        ("https://myapi.example.test", None),
        ("https://192.0.2.1", None),
    ],
)
def test_pcap_beside_api(target: str, api: Optional[str]) -> None:
    """``api.`` becomes ``pcap.`` at the beginning of the name only."""
    assert pcap_of_api(target) == api


def test_guids() -> None:
    """GUIDs are distinguished from names."""
    assert is_guid("1cb006ee-fb05-47e1-b541-c34179ddc446")
    assert not is_guid("myapp")
    assert not is_guid("1cb006ee-fb05-47e1-b541-c34179ddc446-x")


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_list_parameter(name: str) -> None:
    """Cloud Controller unescapes, splits at commas and unescapes again: one name arrives."""
    once = unquote(list_parameter(name))
    assert "," not in once
    assert unquote(once) == name


# --- tokens -------------------------------------------------------------------


def test_refresh_grant() -> None:
    """A refresh posts what the cf CLI posts: Basic ``cf:``, the refresh token, an empty scope."""
    grant = grant_for(parse_login(config()))
    assert grant.authorization == "Basic Y2Y6"
    form = parse_qs(grant.form, keep_blank_values=True)
    assert form == {"grant_type": ["refresh_token"], "refresh_token": ["old-refresh"], "scope": [""]}


def test_client_credentials_grant() -> None:
    """After ``cf auth --client-credentials`` id and secret are posted in the form."""
    login = parse_login(
        config(
            UAAGrantType="client_credentials",
            UAAOAuthClient="ci",
            UAAOAuthClientSecret="s&s",
            RefreshToken="",
        )
    )
    grant = grant_for(login)
    assert grant.authorization is None
    expected = {"grant_type": ["client_credentials"], "client_id": ["ci"], "client_secret": ["s&s"]}
    assert parse_qs(grant.form) == expected


def test_nothing_to_refresh_with() -> None:
    """Without a refresh token there is only a new login."""
    with pytest.raises(LoginProblem, match="cf login"):
        grant_for(parse_login(config(RefreshToken="")))


# --- writing ------------------------------------------------------------------

NEW = Tokens("new.access.token", "new-refresh")


def test_a_place_that_is_empty_stays_so() -> None:
    """An empty secret field of the file stays empty."""
    assert json.loads(with_tokens('{"AccessToken": "", "RefreshToken": ""}', NEW)) == {
        "AccessToken": "",
        "RefreshToken": "",
    }


def test_only_tokens_change() -> None:
    """Every other byte stays, whatever the layout."""
    text = config(Unknown={"AccessToken": "bearer inner", "n": 1.50})
    expected = text.replace("bearer old.access.token", "bearer new.access.token").replace(
        "old-refresh", "new-refresh"
    )
    assert with_tokens(text, NEW) == expected


def test_layout_and_escapes_stay() -> None:
    """The file's layout, escapes, numbers and order of keys stay as Go wrote them."""
    text = (
        '\n{ "x":"\\u003c\\"AccessToken\\"" ,"AccessToken":\t"a\\u002db","n":1e3,"RefreshToken" : "r"\n}\n\n'
    )
    assert with_tokens(text, NEW) == (
        '\n{ "x":"\\u003c\\"AccessToken\\"" ,"AccessToken":\t"bearer new.access.token",'
        '"n":1e3,"RefreshToken" : "new-refresh"\n}\n\n'
    )


def test_old_refresh_token_stays() -> None:
    """UAA need not give a new refresh token."""
    assert json.loads(with_tokens(config(), Tokens("a")))["RefreshToken"] == "old-refresh"


@pytest.mark.parametrize("empty", ["", None, 5, {}])
def test_no_token_where_there_was_none(empty: Any) -> None:
    """A token is not stored where none was."""
    text = config(AccessToken=empty)
    assert "new.access.token" not in with_tokens(text, NEW)
    assert "new-refresh" in with_tokens(text, NEW)
    assert with_tokens("{}", NEW) == "{}"


@given(
    st.dictionaries(
        st.text() | st.sampled_from(["AccessToken", "RefreshToken", "Target"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    ),
    st.sampled_from([None, 0, 3, "\t"]),
    st.booleans(),
)
def test_any_object(values: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    """The result means the same, but for tokens that were there."""
    after = json.loads(with_tokens(json.dumps(values, indent=indent, ensure_ascii=ascii_only), NEW))
    expected = dict(values)
    for key, fresh in (("AccessToken", "bearer new.access.token"), ("RefreshToken", "new-refresh")):
        if isinstance(values.get(key), str) and values[key]:
            expected[key] = fresh
    assert after == expected
    assert list(after) == list(values)
