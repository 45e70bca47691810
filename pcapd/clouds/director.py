"""Reads a BOSH director's answers, for api and pcapctl.  Plain functions.

Sources: the director's API documentation (https://bosh.io/docs/director-api-v1) and,
for details, its info_controller.rb and deployments_controller.rb:
``instances`` without a format is answered immediately, from the director's database; an
instance without a VM has ``ips: []`` and null for ``cid``; both for an invalid token and
for a token without the required scope the status is 401, but only in the latter case
there is a JSON body (code 600000).  The director is trusted, but its answers are checked.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from pcapd.clouds.reading import AGAIN, AnswerReader, json_object, printable
from pcapd.clouds.tokens import Issuer, same_url
from pcapd.errors import (
    BadRequest,
    Forbidden,
    LimitReached,
    RequestError,
    ResolverUnavailable,
    TargetNotFound,
    Unauthenticated,
)
from pcapd.limits import INSTANCES_MAX, LISTED_MAX, NAME_MAX
from pcapd.wire.messages import Notice, NoticeType
from pcapd.wire.requests import Deployment

__all__ = [
    "DirectorInfo",
    "Vm",
    "check_deployment",
    "nothing_there",
    "parse_info",
    "parse_instances",
    "parse_teams",
    "pick",
    "refusal",
]

_ANSWER = AnswerReader("the director's")

#: The form of names, which become part of URLs; GROUP/ID must fit in `NAME_MAX` characters.
_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,189}")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_UUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")

#: The director's codes for a missing deployment and a missing permission (errors.rb).
_NO_DEPLOYMENT, _NOT_ALLOWED = 70000, 600000


@dataclass(frozen=True)
class DirectorInfo:
    """The content of ``GET /info``.

    Attributes:
        uaa: The URL of the UAA whose tokens the director accepts; not checked yet.
        others: Other URLs of this UAA.
    """

    name: str
    uuid: str
    version: str
    uaa: str
    others: Tuple[str, ...] = ()

    @property
    def issuer(self) -> Issuer:
        """The director's UAA as the issuer of tokens.

        Raises:
            ResolverUnavailable: The UAA has no https URL.
        """
        return Issuer(_https(self.uaa), tuple(_https(other) for other in self.others))


def _https(url: str) -> str:
    url = url.rstrip("/")
    if len(url) > NAME_MAX or not same_url(url, url):
        raise ResolverUnavailable("the director names a UAA without an https URL", "ask the operator")
    return url


@dataclass(frozen=True)
class Vm:
    """An instance, with or without a VM.

    Attributes:
        address: The first IP address of the VM; None without a VM.
        zone: The availability zone; empty if it has none.
        expected: Whether the instance should have a VM; an errand's instance should not.
    """

    group: str
    id: str
    index: int
    address: Optional[str] = None
    zone: str = ""
    expected: bool = True

    @property
    def name(self) -> str:
        """The name of the instance in BOSH's form: GROUP/ID."""
        return f"{self.group}/{self.id}"


def check_deployment(deployment: Deployment) -> None:
    """Refuse names that are not valid in BOSH, before they become part of a URL.

    Raises:
        BadRequest: The name of the deployment, a group or an instance is not valid.
    """
    if not _NAME.fullmatch(deployment.name):
        raise BadRequest(
            f"{deployment.name!r} is not the name of a deployment", "bosh deployments lists them"
        )
    for group in deployment.groups:
        if not _NAME.fullmatch(group):
            raise BadRequest(f"{group!r} is not the name of an instance group", "bosh instances lists them")
    for instance in deployment.instances:
        group, slash, id = instance.rpartition("/")
        if not _ID.fullmatch(id) or (slash and not _NAME.fullmatch(group)):
            raise BadRequest(
                f"{instance!r} is not the id or index of an instance", "it looks like 0, UUID or GROUP/UUID"
            )


# --- answers --------------------------------------------------


def refusal(status: int, body: bytes, deployment: str) -> RequestError:
    """The error for an answer about a deployment whose status is not 200."""
    code = json_object(body).get("code")
    if status == 403 or (status == 401 and code == _NOT_ALLOWED):
        return Forbidden(
            f"the director does not let this token read deployment {deployment}",
            "bosh deployments lists those you may see",
        )
    if status == 401:
        return Unauthenticated("the director does not accept the token", "log in again: bosh log-in")
    if status == 404 and code == _NO_DEPLOYMENT:
        return TargetNotFound(
            f"there is no deployment {deployment}", "bosh deployments lists those you may see"
        )
    if status == 429:
        return LimitReached("the director limits how often you may ask it", AGAIN)
    if 300 <= status < 400:
        return ResolverUnavailable(
            f"the director answered with a redirect ({status})",
            "ask the operator to set bosh.director to its own address",
        )
    return ResolverUnavailable(f"the director answered with an error ({status})", AGAIN)


def parse_info(body: bytes) -> DirectorInfo:
    """Read ``GET /info``.

    Raises:
        ResolverUnavailable: The answer is not from a director, or the director has no UAA.
    """
    what = "itself"
    value = _ANSWER.mapping(body, what)
    authentication = _ANSWER.member(value, "user_authentication", dict, what)
    kind = authentication.get("type")
    if kind != "uaa":
        raise ResolverUnavailable(
            f"the director's users are not in UAA, but in {printable(str(kind))}",
            "ask the operator to deploy it with UAA",
        )
    options = _ANSWER.member(authentication, "options", dict, what)
    url = _ANSWER.member(options, "url", str, what)
    others = _ANSWER.texts(options.get("urls"), what)
    uuid = _ANSWER.matching(_UUID, value, "uuid", what)
    version = value.get("version")
    return DirectorInfo(
        printable(_ANSWER.member(value, "name", str, what)),
        uuid,
        printable(version) if isinstance(version, str) else "unknown",
        url,
        tuple(others),
    )


def parse_teams(body: bytes, deployment: str) -> Optional[Tuple[str, ...]]:
    """Read ``GET /deployments``: the teams of one deployment; None if it is not listed.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    what = "deployments"
    for entry in _ANSWER.entries(_ANSWER.value(body, what), what):
        if entry.get("name") == deployment:
            teams = _ANSWER.texts(entry.get("teams"), what)
            if not all(teams):
                raise _ANSWER.nonsense(what)
            return tuple(teams)
    return None


def parse_instances(body: bytes) -> Tuple[Vm, ...]:
    """Read ``GET /deployments/NAME/instances``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    vms = tuple(_vm(entry) for entry in _ANSWER.entries(_ANSWER.value(body, _INSTANCES), _INSTANCES))
    if len(vms) > INSTANCES_MAX:
        raise ResolverUnavailable(f"the deployment has more than {INSTANCES_MAX} instances")
    if len({vm.name for vm in vms}) != len(vms):
        raise _ANSWER.nonsense(_INSTANCES)
    return vms


_INSTANCES = "instances"


def _vm(entry: Dict[str, Any]) -> Vm:
    index = _ANSWER.member(entry, "index", int, _INSTANCES)
    if not 0 <= index < INSTANCES_MAX:
        raise _ANSWER.nonsense(_INSTANCES)
    zone = entry.get("az")
    return Vm(
        group=_ANSWER.matching(_NAME, entry, "job", _INSTANCES),
        id=_ANSWER.matching(_ID, entry, "id", _INSTANCES),
        index=index,
        address=_address(entry.get("ips")),
        zone=printable(zone) if isinstance(zone, str) else "",
        expected=entry.get("expects_vm") is not False,
    )


def _address(addresses: object) -> Optional[str]:
    if addresses is None or addresses == []:
        return None
    try:
        if isinstance(addresses, list) and isinstance(addresses[0], str):
            return str(ipaddress.ip_address(addresses[0]))
    except ValueError as error:
        raise _ANSWER.nonsense(_INSTANCES) from error
    raise _ANSWER.nonsense(_INSTANCES)


# --- selection ----------------------------------------------------


def pick(deployment: Deployment, vms: Sequence[Vm]) -> Tuple[Tuple[Vm, ...], Tuple[Notice, ...]]:
    """Select the VMs that can be captured, with notices for requested ones that cannot."""
    found, lost = deployment.select([(vm.group, vm.id, vm.index) for vm in vms])
    picked: List[Vm] = []
    notices: List[Notice] = []
    for vm in sorted((vms[position] for position in found), key=lambda vm: (vm.group, vm.index, vm.id)):
        if vm.address is not None:
            picked.append(vm)
        elif vm.expected or deployment.groups or deployment.instances:
            # Errands usually have no VM, so a notice is sent only if the request names them.
            notices.append(Notice(NoticeType.INSTANCE_UNAVAILABLE, "has no VM", vm.name))
    where = f"deployment {deployment.name}"
    notices += [
        Notice(NoticeType.INSTANCE_UNAVAILABLE, f"there is no {name} in {_scope(deployment, name)}", where)
        for name in lost
    ]
    return tuple(picked), tuple(notices)


def _scope(deployment: Deployment, name: str) -> str:
    if name.startswith("instance ") and deployment.groups:
        several = "s" if len(deployment.groups) > 1 else ""
        return f"the group{several} {', '.join(deployment.groups[:LISTED_MAX])}"
    return f"deployment {deployment.name}"


def nothing_there(deployment: Deployment, notices: Sequence[Notice]) -> TargetNotFound:
    """The error for a request of which no VM can be captured."""
    hint = f"bosh -d {deployment.name} instances lists what it has"
    if not notices:
        return TargetNotFound(f"deployment {deployment.name} has no VM", hint)
    reasons = "; ".join(
        notice.message if notice.message.startswith("there is no") else f"{notice.origin} {notice.message}"
        for notice in notices[:LISTED_MAX]
    )
    more = f"; and {len(notices) - LISTED_MAX} more" if len(notices) > LISTED_MAX else ""
    return TargetNotFound(f"nothing of deployment {deployment.name} can be captured: {reasons}{more}", hint)
