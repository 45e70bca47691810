"""The cf CLI's configuration file: parses it, and replaces its tokens.  Pure.

The file is ``$CF_HOME/.cf/config.json``, flat JSON as Go writes it (cf CLI,
``util/configv3/json_config.go``).  It belongs to the cf CLI: new tokens
replace old ones in its text, and every other byte is left unchanged.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]  # not in typeshed
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple
from urllib.parse import quote, urlencode, urlsplit

from pcapd.clouds.uaa import Grant, LoginProblem, Tokens, basic, check_url

__all__ = [
    "Login",
    "config_path",
    "grant_for",
    "is_guid",
    "list_parameter",
    "parse_login",
    "pcap_of_api",
    "with_tokens",
]

#: The only version that cf CLI 7 and 8 read; they ignore a file of any other version.
CONFIG_VERSION = 4
#: Tokens are ASCII without spaces (RFC 6750, section 2.1).
_TOKEN = re.compile(r"[!-~]+")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\r\n]*")
_LOG_IN = "log in with: cf login"
_REPAIR = f"{_LOG_IN}, which repairs it"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Login:
    """The user's login in the cf CLI's configuration.

    Attributes:
        target: Cloud Controller's URL.
        authorization_endpoint: URL at which tokens are refreshed.
        access_token: Without its scheme; may be empty.
        grant_type: How the user logged in; empty means with a password.
        client: The OAuth client, with `client_secret`.
        ssl_disabled: ``cf login --skip-ssl-validation`` was used.
    """

    target: str
    authorization_endpoint: str = ""
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    grant_type: str = ""
    client: str = "cf"
    client_secret: str = field(default="", repr=False)
    org: str = ""
    space: str = ""
    space_guid: str = ""
    ssl_disabled: bool = False


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the cf CLI keeps its configuration.

    Raises:
        LoginProblem: The user has no home directory.
    """
    home = environment.get("CF_HOME") or environment.get("HOME")
    if not home:
        raise LoginProblem("the cf CLI's configuration cannot be located", "set CF_HOME or HOME")
    return Path(home) / ".cf" / "config.json"


def parse_login(text: str) -> Login:
    """Read the configuration.

    Raises:
        LoginProblem: It is not such a configuration, or the user is not logged in.
    """
    values = _parse_object(text)
    version = values.get("ConfigVersion")
    if version != CONFIG_VERSION:
        written = version if isinstance(version, int) else "none"
        raise LoginProblem(
            f"the cf CLI's configuration has version {written}, but {CONFIG_VERSION} is needed",
            "log in with version 7 or 8 of the cf CLI: cf login",
        )
    login = _login(values)
    if not login.target:
        raise LoginProblem(
            "the cf CLI has no api endpoint", "set it with: cf login -a https://api.example.com"
        )
    check_url(
        login.target, "the cf CLI's api endpoint", "set another with: cf login -a https://api.example.com"
    )
    if not login.access_token and not login.refresh_token and login.grant_type != "client_credentials":
        raise LoginProblem("the cf CLI is not logged in", _LOG_IN)
    return login


def _parse_object(text: str) -> Dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoginProblem("the cf CLI's configuration is not JSON", _REPAIR) from error
    if not isinstance(values, dict):
        raise LoginProblem("the cf CLI's configuration is not a JSON object", _REPAIR)
    return values


def _login(values: Dict[str, Any]) -> Login:
    org, space = _object(values, "OrganizationFields"), _object(values, "SpaceFields")
    return Login(
        target=_text(values, "Target").rstrip("/"),
        # The cf CLI asks AuthorizationEndpoint for tokens (api/uaa/internal/routes.go).
        authorization_endpoint=_text(values, "AuthorizationEndpoint") or _text(values, "UaaEndpoint"),
        access_token=_bare(_text(values, "AccessToken")),
        refresh_token=_token(_text(values, "RefreshToken"), "RefreshToken"),
        grant_type=_text(values, "UAAGrantType"),
        client=_text(values, "UAAOAuthClient") or "cf",
        client_secret=_text(values, "UAAOAuthClientSecret"),
        org=_text(org, "Name"),
        space=_text(space, "Name"),
        space_guid=_text(space, "GUID"),
        ssl_disabled=values.get("SSLDisabled") is True,
    )


def _object(values: Dict[str, Any], key: str) -> Dict[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _text(values: Dict[str, Any], key: str) -> str:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise LoginProblem(f"{key} in the cf CLI's configuration is not text", _LOG_IN)
    return value or ""


def _bare(token: str) -> str:
    """The access token without the scheme that the cf CLI stores with it."""
    scheme, space, rest = token.partition(" ")
    return _token(rest if space and scheme.lower() == "bearer" else token, "AccessToken")


def _token(token: str, key: str) -> str:
    if token and not _TOKEN.fullmatch(token):
        raise LoginProblem(f"{key} in the cf CLI's configuration is not a token", _LOG_IN)
    return token


# --- addresses ------------------------------------------------------------------


def pcap_of_api(target: str) -> Optional[str]:
    """The pcap api's URL derived from Cloud Controller's: ``api.`` → ``pcap.``; None without ``api.``."""
    parts = urlsplit(target)
    if not parts.netloc.lower().startswith("api."):
        return None
    return f"{parts.scheme}://pcap.{parts.netloc[len('api.') :]}"


def is_guid(name: str) -> bool:
    """Whether the name is treated as an app's GUID."""
    return _GUID.fullmatch(name) is not None


def list_parameter(value: str) -> str:
    """Escape a value for a filter of Cloud Controller, which splits at commas and then unescapes."""
    return quote(quote(value, safe=""), safe="")


# --- tokens ---------------------------------------------------------------------


def grant_for(login: Login) -> Grant:
    """The request that the cf CLI would post for new tokens (``api/uaa/refresh_token.go``).

    Raises:
        LoginProblem: There is no refresh token.
    """
    if login.grant_type == "client_credentials":
        form = {"client_id": login.client, "client_secret": login.client_secret}
        return Grant(urlencode({**form, "grant_type": "client_credentials"}), None)
    if not login.refresh_token:
        raise LoginProblem("your cf login has expired", _LOG_IN)
    # An empty scope requests all scopes of the user.
    form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token, "scope": ""}
    return Grant(urlencode(form), basic(login.client, login.client_secret))


def with_tokens(text: str, tokens: Tokens) -> str:
    """The configuration with new tokens in place of the old ones, and otherwise byte for byte the same.

    Raises:
        LoginProblem: The text is not a JSON object.
    """
    fresh = {"AccessToken": f"{tokens.scheme} {tokens.access}", "RefreshToken": tokens.refresh}
    held = _strings(text)
    for key in sorted(set(fresh) & set(held), key=lambda key: held[key], reverse=True):
        start, end = held[key]
        # An empty value stays empty: the user may not want secrets in this file.
        if fresh[key] and text[start:end] != '""':
            text = text[:start] + json.dumps(fresh[key]) + text[end:]
    return text


def _strings(text: str) -> Dict[str, Tuple[int, int]]:
    """The positions of the outermost object's string values."""
    _parse_object(text)  # it is a JSON object, so the walk below can be simple
    found = {}
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = scanstring(text, at + 1)
        start = _skip(text, _skip(text, at) + 1)
        value, end = _DECODER.raw_decode(text, start)
        if isinstance(value, str):
            found[key] = (start, end)
        else:
            found.pop(key, None)  # the last value of a repeated key counts
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    match = _SPACES.match(text, at)
    return match.end() if match else at
