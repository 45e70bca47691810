"""Checks of single values of a configuration.

A check receives a value from YAML and returns it in the form of `schema`, or raises
ValueError with a message that is shown after "path: ".  Messages never quote a value that
could be a secret.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Callable, List, Tuple, TypeVar, Union
from urllib.parse import urlsplit

from pcapd.config.units import format_size, parse_duration, parse_size

__all__ = [
    "Check",
    "absolute_path",
    "address",
    "boolean",
    "dns_name",
    "duration",
    "file_in",
    "guid",
    "host",
    "https_url",
    "identity",
    "interface",
    "items",
    "kind",
    "label",
    "listening_port",
    "name",
    "network",
    "one_of",
    "operator",
    "port",
    "scope",
    "size_between",
    "text",
    "token_hash",
    "user_name",
    "whole_number",
]

T = TypeVar("T")
Check = Callable[[object], T]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# bool is before int, because True is an instance of both.
_KINDS: Tuple[Tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
    (type(None), "nothing"),
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Ids from BOSH have the form GROUP/GUID, and the name of a group may be long.
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_NAME_RULE = "must be at most {} letters, digits, {}, beginning with a letter or digit"
_DNS_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_DNS_LABEL}(?:\.{_DNS_LABEL})*")
_INTERFACE = re.compile(r"[^\s/]{1,15}")  # IFNAMSIZ without the final NUL
_USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
#: Labels of Cloud Controller: PREFIX/NAME=VALUE, each part at most 63 characters, the prefix 253.
_LABEL = re.compile(
    r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
    r"=[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
_GUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_OPERATOR = re.compile(r"static/[!-~]{1,128}|(?:cloud_foundry|bosh)/[!-.0-~]{1,64}/[!-~]{1,200}")
_SCOPE = re.compile(r"[\x21-\x7e]{1,256}")
#: Words that change the offsets of all later tests in a filter (pcap-filter(7), "vlan").
_MOVING = re.compile(r"\b(?:vlan|mpls|pppoed|pppoes|geneve|vxlan)\b")
_TOKEN_HASH = re.compile(r"[0-9A-Fa-f]{64}")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0]")

#: The hash of an empty token, which `sha256sum` prints if a variable was empty.
_HASH_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def kind(value: object) -> str:
    """Describe the type of a value."""
    return next((text for kind, text in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")


def text(value: object) -> str:
    """Check text that must not be empty."""
    if not isinstance(value, str):
        hint = "" if isinstance(value, (list, dict)) else " (quotes make it text)"
        raise ValueError(f"must be text, not {kind(value)}{hint}")
    if not value:
        raise ValueError("must not be empty")
    return value


def boolean(value: object) -> bool:
    """Check a YAML boolean; 0 and 1 are refused."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {kind(value)}")
    return value


def items(value: object) -> List[object]:
    """Check a list, without its items."""
    if not isinstance(value, list):
        raise ValueError(f"must be a list, not {kind(value)}")
    return value


def whole_number(low: int, high: int) -> Check[int]:
    """A check for whole numbers from low to high; booleans are refused."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {kind(value)}")
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return check


#: A TCP port to connect to.
port: Check[int] = whole_number(1, 65535)
#: A TCP port to listen on; 0 takes any free one.
listening_port: Check[int] = whole_number(0, 65535)


def duration(value: object) -> float:
    """Check a duration with its unit, and return it in seconds, more than 0."""
    if not isinstance(value, str):
        raise ValueError(f"must be a duration such as 500ms, 30s, 5m or 1h, not {kind(value)}")
    seconds = parse_duration(value)
    if not seconds:
        raise ValueError("must be longer than 0")
    return seconds


def size_between(low: int, high: int) -> Check[int]:
    """A check for sizes from low to high bytes, as text with a unit or as a number."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError(f"must be a size such as 64KiB or 100MB, not {kind(value)}")
        size = parse_size(value) if isinstance(value, str) else value
        if not low <= size <= high:
            raise ValueError(f"must be from {format_size(low)} to {format_size(high)}")
        return size

    return check


def one_of(choices: Tuple[T, ...]) -> Check[T]:
    """A check for one of several words."""

    def check(value: object) -> T:
        word = text(value)
        for choice in choices:
            if word == choice:
                return choice
        raise ValueError(f"must be one of {', '.join(map(str, choices))}")

    return check


def name(value: object) -> str:
    """Check the name of a target, a namespace or a user."""
    return _matching(_NAME, value, _NAME_RULE.format(64, "'.', '_' and '-'"))


def identity(value: object) -> str:
    """Check the daemon's own id: like a name, but longer and with slashes, as in ``router/0``."""
    return _matching(_IDENTITY, value, _NAME_RULE.format(128, "'.', '_', '-' and '/'"))


def interface(value: object) -> str:
    """Check the name of a network interface."""
    return _matching(
        _INTERFACE, value, "must be an interface: at most 15 characters without spaces and slashes"
    )


def exclusion(value: object) -> str:
    """Check a BPF filter that is combined with others, as far as possible without libpcap."""
    found = text(value)
    if not found.isascii() or not found.isprintable():
        raise ValueError("must be printable ASCII, in one line")
    moved = _MOVING.search(found)
    if moved:
        raise ValueError(f"must not have {moved[0]}, which changes the meaning of every filter after it")
    depth = 0
    for character in found:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    if depth:
        raise ValueError("has parentheses that do not match")
    return found


def label(value: object) -> Tuple[str, str]:
    """Check ``KEY=VALUE`` of a label of Cloud Controller, as in ``cf set-label``; return both."""
    found = _matching(_LABEL, value, "must be KEY=VALUE, the label of an app, a space or an organization")
    key, _, wanted = found.partition("=")
    return key, wanted


def guid(value: object) -> str:
    """Check a GUID of Cloud Controller."""
    return _matching(_GUID, value, "must be a GUID, as cf app NAME --guid shows it")


def operator(value: object) -> str:
    """Check an operator: ``static/NAME``, ``cloud_foundry/ORIGIN/NAME`` or ``bosh/ORIGIN/NAME``."""
    return _matching(_OPERATOR, value, "must be static/NAME, cloud_foundry/ORIGIN/NAME or bosh/ORIGIN/NAME")


def user_name(value: object) -> str:
    """Check the name of a user of this machine."""
    return _matching(_USER_NAME, value, "must be the name of a user of this machine")


def scope(value: object) -> str:
    """Check a scope of an OAuth token."""
    return _matching(_SCOPE, value, "must be one scope, without spaces")


def dns_name(value: object) -> str:
    """Check a DNS name and return it in lower case; addresses and patterns are refused."""
    found = _matching(_DNS_NAME, value, "must be a DNS name, without wildcards").lower()
    if _is_address(found):
        raise ValueError("must be a DNS name, not an IP address")
    return found


def address(value: object) -> str:
    """Check an IP address, version 4 or 6, and return it in the usual spelling.

    IPv6 zones are refused, because a BPF filter that excludes the daemon's own connections
    cannot contain them.
    """
    found = text(value)
    if not _is_address(found) or "%" in found:
        raise ValueError("must be an IP address, version 4 or 6")
    return str(ipaddress.ip_address(found))


def host(value: object) -> str:
    """Check an IP address or a DNS name."""
    try:
        return address(value)
    except ValueError:
        return dns_name(value)


def network(value: object) -> Network:
    """Check a network in CIDR notation, or one address."""
    found = text(value)
    try:
        if "%" in found:
            raise ValueError
        return ipaddress.ip_network(found)
    except ValueError:
        raise ValueError("must be an IP address, or a network such as 10.0.16.0/24") from None


def https_url(value: object) -> str:
    """Check the https URL of a server, and return it without a final slash.

    Paths, user names and passwords are refused; the api adds its own paths.
    """
    found = text(value)
    example = "must be an https URL such as https://api.example.com"
    if _UNPRINTABLE.search(found):
        raise ValueError(example)
    try:
        parts = urlsplit(found)
        usable = parts.scheme == "https" and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # an invalid port or bracket
        raise ValueError(example) from None
    if not usable:
        raise ValueError(example)
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    if parts.path not in ("", "/") or "?" in found or "#" in found:
        raise ValueError(f"{example}, without a path")
    return found.rstrip("/")


def token_hash(value: object) -> str:
    """Check the SHA-256 of a token, and return it in lower case; that of an empty text is refused."""
    found = _matching(_TOKEN_HASH, value, "must be the 64 hexadecimal digits of the token's SHA-256").lower()
    if found == _HASH_OF_NOTHING:
        raise ValueError("is the hash of an empty token")
    return found


def file_in(directory: Path) -> Check[Path]:
    """A check for paths; relative paths are relative to the directory."""

    def check(value: object) -> Path:
        found = text(value)
        if "\0" in found:
            raise ValueError("must be a path")
        return directory / found

    return check


def absolute_path(value: object) -> Path:
    """Check an absolute path."""
    found = text(value)
    if not found.startswith("/") or "\0" in found:
        raise ValueError("must be an absolute path")
    return Path(found)


def _matching(pattern: re.Pattern[str], value: object, problem: str) -> str:
    found = text(value)
    if not pattern.fullmatch(found):
        raise ValueError(problem)
    return found


def _is_host(found: str) -> bool:
    return bool(_DNS_NAME.fullmatch(found)) or _is_address(found)


def _is_address(found: str) -> bool:
    try:
        ipaddress.ip_address(found)
    except ValueError:
        return False
    return True
