"""The BOSH CLI's configuration file: parses it, and replaces its tokens.  Pure.

The file is ``~/.bosh/config``, YAML (BOSH CLI, ``cmd/config/fs_config.go``).  It belongs
to the BOSH CLI: new tokens replace old ones in its text, and every other byte is left
unchanged.  Errors of the YAML parser are never shown, because they quote the text and
with it the tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import urlencode, urlsplit

import yaml

from pcapd.clouds.uaa import Grant, LoginProblem, Tokens, basic, check_url

__all__ = [
    "Environment",
    "Settings",
    "aliases",
    "config_path",
    "director_url",
    "environment_of",
    "grant_for",
    "settings",
    "with_tokens",
]

#: The BOSH CLI's own OAuth client, without a secret (``cmd/session.go``).
CLIENT = "bosh_cli"
#: The director's port when its URL names none.
DIRECTOR_PORT = 25555
#: The keys of a login in the file.
_ACCESS, _REFRESH, _SCHEME = "access_token", "refresh_token", "access_token_type"
_NULL = "tag:yaml.org,2002:null"
_BLOCKS = ("|", ">")
_REPAIR = "move it away and log in again: bosh log-in"


@dataclass(frozen=True)
class Settings:
    """Settings from the environment variables and the command line.

    Attributes:
        environment: Alias or URL of the director.
        ca: PEM text, or the path of such a file; empty for the configuration's.
    """

    environment: str
    client: str = ""
    client_secret: str = field(default="", repr=False)
    ca: str = ""


@dataclass(frozen=True)
class Environment:
    """A director, and the login to it.

    Attributes:
        key: Its URL as written in the configuration; the BOSH CLI looks it up by this.
        url: The URL with scheme and port.
        ca: CA certificates for the director and its UAA, as PEM text.
        client: A UAA client instead of a user, with `client_secret`.
        access_token: The user's token, as is `refresh_token`.
    """

    key: str
    url: str
    ca: str = ""
    client: str = ""
    client_secret: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)


def settings(variables: Mapping[str, str], environment: Optional[str]) -> Settings:
    """Read the variables of the BOSH CLI.

    Args:
        environment: The one of the command line, instead of BOSH_ENVIRONMENT.

    Raises:
        LoginProblem: No environment is named, or a client has no secret.
    """
    named = environment or variables.get("BOSH_ENVIRONMENT", "")
    if not named:
        raise LoginProblem("no environment is named", "set BOSH_ENVIRONMENT, or use --environment")
    client, secret = variables.get("BOSH_CLIENT", ""), variables.get("BOSH_CLIENT_SECRET", "")
    if client and not secret:
        raise LoginProblem("BOSH_CLIENT is set without its secret", "set BOSH_CLIENT_SECRET too")
    return Settings(named, client, secret, variables.get("BOSH_CA_CERT", ""))


def config_path(variables: Mapping[str, str]) -> Path:
    """Where the BOSH CLI keeps its configuration.

    Raises:
        LoginProblem: The user has no home directory.
    """
    named, home = variables.get("BOSH_CONFIG"), variables.get("HOME")
    if named and not named.startswith("~/"):
        return Path(named)
    if not home:
        raise LoginProblem("the BOSH CLI's configuration cannot be located", "set BOSH_CONFIG or HOME")
    return Path(home) / (named[2:] if named else ".bosh/config")


def director_url(named: str) -> str:
    """A director's URL with scheme and port, as the BOSH CLI completes it.

    Raises:
        LoginProblem: The URL is not one to which a token may be sent.
    """
    url = (named if "://" in named else f"https://{named}").rstrip("/")
    check_url(
        url, "the BOSH environment", "for example: https://10.0.0.6:25555; bosh environments lists yours"
    )
    parts = urlsplit(url)
    return url if parts.port else parts._replace(netloc=f"{parts.netloc}:{DIRECTOR_PORT}").geturl()


def aliases(text: str) -> List[str]:
    """The aliases of the directors in a configuration.

    Raises:
        LoginProblem: The text is not such a configuration.
    """
    return [entry["alias"] for entry in _texts(text) if entry.get("alias")]


def environment_of(text: Optional[str], given: Settings) -> Environment:
    """Find an environment by its alias or URL, with the login to it.

    Args:
        text: The configuration, or None.
        given: Takes precedence over the configuration.

    Raises:
        LoginProblem: The configuration cannot be read, or the user is not logged in.
    """
    entry = _find(text, given.environment) if text is not None else None
    values = {key: value.text for key, value in entry.items()} if entry else {}
    key = values.get("url") or given.environment
    environment = Environment(
        key=key,
        url=director_url(key),
        ca=given.ca or values.get("ca_cert", ""),
        client=given.client or values.get("username", ""),
        client_secret=given.client_secret if given.client else values.get("password", ""),
        access_token=_token(values, _ACCESS),
        refresh_token=_token(values, _REFRESH),
    )
    if not environment.client and not environment.access_token and not environment.refresh_token:
        name = given.environment
        known = "" if entry else "; bosh environments lists the known ones"
        raise LoginProblem(
            f"the BOSH CLI is not logged in to {name}",
            f"log in with: bosh -e {name} log-in, or set BOSH_CLIENT and BOSH_CLIENT_SECRET{known}",
        )
    return environment


def _token(values: Mapping[str, str], key: str) -> str:
    token = values.get(key, "")
    # Before it goes into a header (RFC 6750, section 2.1).
    if not token.isascii() or not token.isprintable() or " " in token:
        raise LoginProblem(
            f"{key} in the BOSH CLI's configuration is not a token", "log in with: bosh log-in"
        )
    return token


def grant_for(environment: Environment) -> Grant:
    """The request that the BOSH CLI would post for new tokens (``uaa/uaa.go``).

    Raises:
        LoginProblem: There is neither a client nor a refresh token.
    """
    if environment.client:
        form = {"grant_type": "client_credentials"}
        return Grant(urlencode(form), basic(environment.client, environment.client_secret))
    if not environment.refresh_token:
        raise LoginProblem("your BOSH login has expired", f"log in with: bosh -e {environment.key} log-in")
    form = {"grant_type": "refresh_token", "refresh_token": environment.refresh_token}
    return Grant(urlencode(form), basic(CLIENT, ""))


def with_tokens(text: str, key: str, tokens: Tokens) -> str:
    """The configuration with new tokens in place of the old ones, and otherwise byte for byte the same.

    Args:
        key: The environment's URL as written in the configuration.

    Raises:
        LoginProblem: The result would not be such a configuration: its form is unusual.
    """
    fresh = {_ACCESS: tokens.access, _REFRESH: tokens.refresh, _SCHEME: tokens.scheme}
    held = _find(text, key) or {}
    # An empty value stays empty: the user may not want secrets in this file.
    changed = [name for name in fresh if fresh[name] and name in held and held[name].text]
    renewed = text
    for name in sorted(changed, key=lambda name: held[name].start, reverse=True):
        value = held[name]
        line_end = "\n" if value.block else ""
        renewed = renewed[: value.start] + json.dumps(fresh[name]) + line_end + renewed[value.end :]
    expected = [
        {**entry, **{name: fresh[name] for name in changed}} if entry.get("url") == key else entry
        for entry in _texts(text)
    ]
    try:
        found = _texts(renewed)
    except LoginProblem:
        found = []
    if found != expected:
        # For example, a value has a YAML anchor that others refer to.
        raise LoginProblem("the BOSH CLI's configuration is not in the form that the CLI writes", _REPAIR)
    return renewed


# --- YAML -----------------------------------------------------------------------


class _Value(NamedTuple):
    """A value and its position in the text."""

    text: str
    start: int
    end: int
    block: bool


_Entry = Dict[str, _Value]


def _texts(text: str) -> List[Dict[str, str]]:
    return [{key: value.text for key, value in entry.items()} for entry in _entries(text)]


def _find(text: str, named: str) -> Optional[_Entry]:
    """The environment of exactly this alias or URL."""
    for entry in _entries(text):
        if named in [entry[key].text for key in ("alias", "url") if key in entry]:
            return entry
    return None


def _entries(text: str) -> List[_Entry]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise LoginProblem("the BOSH CLI's configuration is not YAML", _REPAIR) from error
    if root is None:
        return []
    environments = dict(_members(root)).get("environments")
    if environments is None or environments.tag == _NULL:
        return []
    if not isinstance(environments, yaml.SequenceNode):
        raise LoginProblem("environments in the BOSH CLI's configuration is not a list", _REPAIR)
    return [
        {key: _value(node) for key, node in _members(entry) if isinstance(node, yaml.ScalarNode)}
        for entry in environments.value
    ]


def _members(node: yaml.Node) -> List[Tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise LoginProblem("the BOSH CLI's configuration is not a YAML mapping", _REPAIR)
    return [(key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]


def _value(node: yaml.ScalarNode) -> _Value:
    text = "" if node.tag == _NULL else node.value
    return _Value(text, node.start_mark.index, node.end_mark.index, node.style in _BLOCKS)
