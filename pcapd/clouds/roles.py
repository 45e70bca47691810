"""Which roles in Cloud Foundry allow a capture, and Cloud Controller's answers about them.  Pure.

The rule is that of ``GET /v3/apps/GUID/permissions``, which needs the user's token; the roles of a user
can be read with any token that may read them.  Rights that are scopes of a token (an administrator's) are
not roles: only the token itself shows them.

Sources: cloud_controller_ng's permissions.rb, roles_list_message.rb and role_presenter.rb.
"""

from __future__ import annotations

import re
from typing import Any, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlsplit

from pcapd.clouds.reading import AnswerReader
from pcapd.errors import ResolverUnavailable

__all__ = [
    "AUDITORS",
    "RoleQuestion",
    "granting_scopes",
    "has_role",
    "next_page",
    "parse_organization",
    "parse_space",
    "questions",
    "user_of",
]

_ANSWER = AnswerReader("Cloud Controller's")
_GUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")

#: Scopes with which a client may read all roles.
AUDITORS: FrozenSet[str] = frozenset(
    f"cloud_controller.{name}" for name in ("global_auditor", "admin", "admin_read_only")
)
#: By permission: roles in the app's space, roles in its organization, and scopes that grant it.
_RULES: Mapping[str, Tuple[Tuple[str, ...], Tuple[str, ...], FrozenSet[str]]] = {
    "read_sensitive_data": (
        ("space_developer",),
        (),
        frozenset({"cloud_controller.admin", "cloud_controller.admin_read_only"}),
    ),
    "read_basic_data": (
        ("space_developer", "space_manager", "space_auditor", "space_supporter"),
        ("organization_manager",),
        AUDITORS,
    ),
}


class RoleQuestion(NamedTuple):
    """A question about the roles of a user in one place.

    Attributes:
        user: Cloud Controller's GUID of the user: UAA's ``user_id``, or ``client_id``.
        kind: ``space`` or ``organization``.
        place: Its GUID.
        types: The roles, of which one is enough.
    """

    user: str
    kind: str
    place: str
    types: Tuple[str, ...]

    def target(self, v3: str) -> str:
        """Path and query.

        Args:
            v3: Path of the V3 API.
        """
        # Within a value of a list, a comma is escaped twice.
        user = quote(self.user.replace("%", "%25").replace(",", "%2C"), safe="")
        types = ",".join(self.types)
        return f"{v3}/roles?user_guids={user}&{self.kind}_guids={self.place}&types={types}"


def user_of(claims: Mapping[str, Any]) -> str:
    """Cloud Controller's GUID of a token's owner; empty if it has none."""
    for name in ("user_id", "client_id"):
        value = claims.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def granting_scopes(permission: str) -> FrozenSet[str]:
    """Scopes of a user's token that grant a permission on every app."""
    return _RULES[permission][2]


def questions(permission: str, user: str, space: str, organization: str) -> List[RoleQuestion]:
    """The questions of which one must be answered with yes.

    Args:
        permission: The permission on an app.
        user: The user's GUID.
        space: GUID of the app's space; ``organization``: of its organization, or empty if unknown.
    """
    in_space, in_organization, _ = _RULES[permission]
    asked = [RoleQuestion(user, "space", space, in_space)]
    if in_organization and organization:
        asked.append(RoleQuestion(user, "organization", organization, in_organization))
    return asked


def has_role(body: bytes, question: RoleQuestion) -> bool:
    """Whether a page of ``GET /v3/roles`` has a role that the question is about.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    entries = _ANSWER.entries(_ANSWER.mapping(body, "roles").get("resources"), "roles")
    return any(_fits(entry, question) for entry in entries)


def _fits(entry: Mapping[str, Any], question: RoleQuestion) -> bool:
    # The filter is not relied on: an answer to another question must not grant anything.
    held = (_related(entry, "user"), _related(entry, question.kind))
    return held == (question.user, question.place) and entry.get("type") in question.types


def next_page(body: bytes, authority: str) -> Optional[str]:
    """Path and query of the next page of a list; None for the last page.

    Args:
        authority: Host and port of Cloud Controller; the next page must be there too.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    pagination = _ANSWER.member(_ANSWER.mapping(body, "a list"), "pagination", dict, "a list")
    following = pagination.get("next")
    if following is None:
        return None
    href = following.get("href") if isinstance(following, dict) else None
    try:
        url = urlsplit(href if isinstance(href, str) else "")
    except ValueError as error:
        raise _ANSWER.nonsense("a list") from error
    if url.scheme != "https" or url.netloc.lower() != authority.lower():
        raise ResolverUnavailable("the next page of Cloud Controller's answer is on another host")
    return f"{url.path}?{url.query}"


def parse_space(body: bytes) -> str:
    """The GUID of the space in ``GET /v3/apps/GUID``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    return _place_of(body, "an app", "space")


def parse_organization(body: bytes) -> str:
    """The GUID of the organization in ``GET /v3/spaces/GUID``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    return _place_of(body, "a space", "organization")


def _place_of(body: bytes, what: str, kind: str) -> str:
    guid = _related(_ANSWER.mapping(body, what), kind)
    if guid is None or not _GUID.fullmatch(guid):
        raise _ANSWER.nonsense(what)
    return guid


def _related(entry: Mapping[str, Any], relation: str) -> Optional[str]:
    """The GUID of a related resource; None if there is none."""
    value: Any = entry
    for key in ("relationships", relation, "data", "guid"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
