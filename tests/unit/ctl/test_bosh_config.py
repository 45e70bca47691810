"""The BOSH CLI's configuration: what is read from it, what is refused, and what new tokens change."""

from __future__ import annotations

import base64
import dataclasses
import os
import stat
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from demo.certificates import Authority
from pcapd.clouds.uaa import LoginProblem, Tokens
from pcapd.ctl.login.boshconfig import (
    Environment,
    Settings,
    config_path,
    director_url,
    environment_of,
    grant_for,
    settings,
    with_tokens,
)
from pcapd.ctl.login.boshlogin import read_ca, read_environment, save_tokens
from pcapd.ctl.login.cflogin import NotSaved
from pcapd.limits import CONFIG_MAX
from tests.kit.lab.memory import traced

URL = "https://10.0.0.6:25555"
PROD = {
    "url": URL,
    "alias": "prod",
    "ca_cert": "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n",
    "access_token_type": "bearer",
    "access_token": "old.access.token",
    "refresh_token": "old-refresh",
}
LAB = {"url": "10.0.0.7", "alias": "lab", "username": "ops", "password": "123"}
FRESH = Tokens("new.access.token", "new-refresh", "Bearer")
#: As the BOSH CLI writes it, with what it does not write: a comment.
CONFIG = """\
# mine
environments:
- url: https://10.0.0.6:25555
  ca_cert: |
    -----BEGIN CERTIFICATE-----
    abc
    -----END CERTIFICATE-----
  alias: prod
  access_token_type: bearer
  access_token: old.access.token   # the old one
  refresh_token: 'old-refresh'
- url: 10.0.0.7
  alias: lab
  username: ops
  password: "123"
  refresh_token: ""
other: [1, {x: ü}]
"""


def config(*entries: Any) -> str:
    return yaml.safe_dump({"environments": list(entries)})


def problem(text: Optional[str], named: str = "prod") -> str:
    """What is said about a login that cannot be used."""
    with pytest.raises(LoginProblem) as caught:
        environment_of(text, Settings(named))
    return str(caught.value)


# --- reading ------------------------------------------------------------------


@pytest.mark.parametrize("named", ["prod", URL])
def test_environment(named: str) -> None:
    """An environment is found by its alias or its URL, with all its values of the file."""
    expected = Environment(
        URL, URL, PROD["ca_cert"], access_token="old.access.token", refresh_token="old-refresh"
    )
    assert environment_of(CONFIG, Settings(named)) == expected


def test_client_in_the_file() -> None:
    """A client that logged in stands there by name and secret; a bare address is completed."""
    lab = environment_of(CONFIG, Settings("lab"))
    assert (lab.key, lab.url, lab.client, lab.client_secret) == (
        "10.0.0.7",
        "https://10.0.0.7:25555",
        "ops",
        "123",
    )


@pytest.mark.parametrize("kept", ["access_token", "refresh_token", "username"])
def test_one_way_to_log_in_is_enough(kept: str) -> None:
    """An environment with any one kind of login is accepted."""
    entry = {"url": URL, "alias": "prod", kept: "something"}
    found = environment_of(config(entry), Settings("prod"))
    assert [found.access_token, found.refresh_token, found.client].count("something") == 1


def test_variables_go_first() -> None:
    """Client, secret and CA of the environment variables go before the file's."""
    found = environment_of(CONFIG, Settings("lab", "me", "mine", "CA"))
    assert (found.client, found.client_secret, found.ca) == ("me", "mine", "CA")


@pytest.mark.parametrize("strange", ["tags: [a, b]", "tags: {a: b}", "? [a, b]\n  : c", "? {a: b}\n  : c"])
def test_what_is_no_text_is_passed_over(strange: str) -> None:
    """Unknown values of newer BOSH CLIs are passed over."""
    text = f"environments:\n- url: {URL}\n  alias: prod\n  refresh_token: old-refresh\n  {strange}\n"
    assert environment_of(text, Settings("prod")).refresh_token == "old-refresh"
    outside = strange.replace("\n  ", "\n")
    assert environment_of(f"{text}{outside}\n", Settings("prod")).refresh_token == "old-refresh"


def test_without_a_file() -> None:
    """A client's name and secret in the environment need no file."""
    found = environment_of(None, Settings("10.0.0.9:2555", "me", "mine", "CA"))
    assert (found.url, found.client, found.ca) == ("https://10.0.0.9:2555", "me", "CA")


def test_secrets_are_not_shown() -> None:
    """Secrets are not in the representation of settings or environments."""
    shown = repr(environment_of(CONFIG, Settings("prod"))) + repr(Settings("x", "me", "mine"))
    assert not any(secret in shown for secret in ("old", "mine"))


def test_old_file() -> None:
    """An old file, of 2022 or before, has a refresh token only."""
    old = {key: value for key, value in PROD.items() if not key.startswith("access")}
    found = environment_of(config(old), Settings("prod"))
    assert (found.access_token, found.refresh_token) == ("", "old-refresh")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "not logged in to prod"),
        ("", "not logged in to prod"),
        ("environments:\n", "not logged in to prod"),
        (config(LAB), "bosh environments lists"),
        (config({"url": URL, "alias": "prod"}), "bosh -e prod log-in"),
        ("[", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("\x00", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("- 1", "not a YAML mapping"),
        ("environments: 1", "is not a list"),
        ("environments: [1]", "not a YAML mapping"),
        (
            config({**PROD, "access_token": "a b"}),
            "access_token in the BOSH CLI's configuration is not a token",
        ),
        (config({**PROD, "refresh_token": "a\x07"}), "refresh_token"),
        (config({**PROD, "access_token": "tökén"}), "access_token"),
        (config({**PROD, "url": "http://10.0.0.6"}), "not https"),
        (config({**PROD, "url": "https://a@b"}), "is not an https URL"),
    ],
)
def test_unusable(text: Optional[str], words: str) -> None:
    """An unusable file or environment is refused with the reason."""
    said = problem(text)
    assert words in said


def test_tokens_are_not_quoted() -> None:
    """A YAML error does not quote the line of the file, which may hold a token."""
    assert "hidden" not in problem("environments:\n- access_token: hidden: hidden\n")


@given(st.text())
def test_any_text(text: str) -> None:
    """Any text of a file is a configuration or a clear error."""
    try:
        environment_of(text, Settings("prod", "me", "mine"))
    except LoginProblem as error:
        assert error.hint


def test_settings() -> None:
    """Settings come from the BOSH CLI's variables, with the option before the variable."""
    variables = {
        "BOSH_ENVIRONMENT": "prod",
        "BOSH_CLIENT": "me",
        "BOSH_CLIENT_SECRET": "s",
        "BOSH_CA_CERT": "CA",
    }
    assert settings(variables, None) == Settings("prod", "me", "s", "CA")
    assert settings(variables, "lab").environment == "lab"
    with pytest.raises(LoginProblem, match="BOSH_ENVIRONMENT"):
        settings({}, None)
    with pytest.raises(LoginProblem, match="BOSH_CLIENT_SECRET"):
        settings({"BOSH_ENVIRONMENT": "prod", "BOSH_CLIENT": "me"}, None)


def test_config_path() -> None:
    """The path of the file is BOSH_CONFIG, or .bosh/config in HOME."""
    assert config_path({"HOME": "/h"}) == Path("/h/.bosh/config")
    assert config_path({"HOME": "/h", "BOSH_CONFIG": "/c"}) == Path("/c")
    assert config_path({"HOME": "/h", "BOSH_CONFIG": "~/c"}) == Path("/h/c")
    with pytest.raises(LoginProblem, match="BOSH_CONFIG or HOME"):
        config_path({})


@pytest.mark.parametrize(
    ("named", "url"),
    [
        ("10.0.0.6", URL),
        ("https://10.0.0.6", URL),
        ("https://10.0.0.6/", URL),
        ("director.example:443", "https://director.example:443"),
        ("[2001:db8::6]", "https://[2001:db8::6]:25555"),
    ],
)
def test_director_url(named: str, url: str) -> None:
    """A director's name or URL becomes a URL, with the director's port unless it names another."""
    assert director_url(named) == url


# --- new tokens -----------------------------------------------------------------


def test_grant_of_a_user() -> None:
    """A user's refresh uses the BOSH CLI's own client, which has no secret."""
    grant = grant_for(environment_of(CONFIG, Settings("prod")))
    assert parse_qs(grant.form) == {"grant_type": ["refresh_token"], "refresh_token": ["old-refresh"]}
    assert grant.authorization == f"Basic {base64.b64encode(b'bosh_cli:').decode()}"


def test_grant_of_a_client() -> None:
    """A client's grant is client_credentials with Basic authorization."""
    grant = grant_for(environment_of(CONFIG, Settings("lab")))
    assert grant == ("grant_type=client_credentials", f"Basic {base64.b64encode(b'ops:123').decode()}")


def test_nothing_to_ask_with() -> None:
    """An expired token without a refresh token or client is a login problem."""
    with pytest.raises(LoginProblem, match="expired"):
        grant_for(Environment(URL, URL, access_token="x"))


def test_every_other_byte_stays() -> None:
    """Saving tokens changes their values only."""
    expected = (
        CONFIG.replace("old.access.token", '"new.access.token"')
        .replace("'old-refresh'", '"new-refresh"')
        .replace("type: bearer", 'type: "Bearer"')
    )
    assert with_tokens(CONFIG, URL, FRESH) == expected


@pytest.mark.parametrize("style", [None, "'", '"', "|", ">"])
@pytest.mark.parametrize("flow", [False, True])
def test_any_way_of_writing(style: Optional[str], flow: bool) -> None:
    """Any YAML style of the file keeps its other values when tokens are saved."""
    text = yaml.safe_dump({"environments": [LAB, PROD], "x": 1}, default_style=style, default_flow_style=flow)
    fresh = {"access_token": FRESH.access, "refresh_token": FRESH.refresh, "access_token_type": FRESH.scheme}
    before = yaml.safe_load(text)
    assert yaml.safe_load(with_tokens(text, URL, FRESH)) == {
        **before,
        "environments": [LAB if not style else before["environments"][0], {**PROD, **fresh}],
    }


def test_where_there_was_none_there_will_be_none() -> None:
    """An access token is not stored where none was."""
    old = {"url": URL, "alias": "prod", "refresh_token": "old-refresh", "access_token": ""}
    renewed = yaml.safe_load(with_tokens(config(old), URL, FRESH))
    assert renewed == {"environments": [{**old, "refresh_token": "new-refresh"}]}


def test_without_a_new_refresh_token() -> None:
    """The old refresh token stays when UAA sends none."""
    assert "old-refresh" in with_tokens(CONFIG, URL, Tokens("new.access.token"))


@pytest.mark.parametrize(
    "text",
    [
        CONFIG.replace("'old-refresh'", "&name old-refresh").replace('"123"', "*name"),
        config(PROD, dict(PROD)),
    ],
)
def test_unusual_files_are_left_alone(text: str) -> None:
    """Files with YAML references, or the director twice, are left alone."""
    with pytest.raises(LoginProblem, match="not in the form that the CLI writes"):
        with_tokens(text, URL, FRESH)


# --- files ----------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_saved(path: Path, mode: int) -> None:
    """New tokens are saved in one step, with the file's mode, and no other file is left."""
    path.chmod(mode)
    before = path.stat().st_ino
    save_tokens(path, environment_of(CONFIG, Settings("prod")), FRESH)
    assert path.read_text() == with_tokens(CONFIG, URL, FRESH)
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.stat().st_ino != before
    assert os.listdir(path.parent) == ["config"]


def test_link(path: Path, tmp_path: Path) -> None:
    """A symbolic link stays, and its target is replaced."""
    link = tmp_path / "link"
    link.symlink_to(path)
    save_tokens(link, environment_of(CONFIG, Settings("prod")), FRESH)
    assert link.is_symlink() and "new-refresh" in path.read_text()


def test_newer_tokens_stay(path: Path) -> None:
    """Tokens that the BOSH CLI has written in the meantime are kept."""
    used = dataclasses.replace(environment_of(CONFIG, Settings("prod")), refresh_token="older")
    save_tokens(path, used, FRESH)
    assert path.read_text() == CONFIG


def test_not_saved(path: Path) -> None:
    """A file that disappeared raises NotSaved."""
    used = environment_of(CONFIG, Settings("prod"))
    path.unlink()
    with pytest.raises(NotSaved, match="could not be saved"):
        save_tokens(path, used, FRESH)


def test_unreadable(tmp_path: Path) -> None:
    """A directory, a large or a binary file is refused with the reason, and no file suffices for a client."""
    given = Settings("prod", "me", "mine")
    assert read_environment(tmp_path / "none", given).client == "me"
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 32 * CONFIG_MAX)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for place, words in ((tmp_path, "cannot read"), (large, "too large"), (binary, "not text")):
        with traced() as peak:
            with pytest.raises(LoginProblem, match=words):
                read_environment(place, given)
            assert peak() < 4 * CONFIG_MAX


def test_authority(tmp_path: Path, authority: Authority) -> None:
    """An authority is PEM text or a path; one without a certificate is named without quoting it."""
    pem = authority.certificate_path.read_text()
    assert read_ca(pem) == pem == read_ca(str(authority.certificate_path))
    assert read_ca("") == ""
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("hello")
    for ca in (str(nonsense), str(tmp_path / "none"), "-----BEGIN CERTIFICATE-----\nx\n"):
        with pytest.raises(LoginProblem, match="BOSH_CA_CERT must be PEM"):
            read_ca(ca)
