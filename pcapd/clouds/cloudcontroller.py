"""Reads Cloud Controller's answers.  Plain functions: no reactor, no sockets, no clock.

Sources: the V3 API documentation (https://v3-apidocs.cloudfoundry.org) and, for
details, cloud_controller_ng's presenters: process_stats_presenter.rb (a DOWN
instance has no ``host`` at all, an unplaced or crashed one has an empty one;
``instance_guid`` exists since API 3.192, ``instance_internal_ip`` since 3.149)
and v3_error_hasher.rb (the form of errors, whose ``detail`` is not reliable).
Cloud Controller is trusted, but its answers are checked: a value of the wrong
type or form is reported here as an error.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from pcapd.clouds.reading import AGAIN, AnswerReader, printable, retry_seconds
from pcapd.clouds.tokens import CF_LOG_IN
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
from pcapd.wire import App, Notice, NoticeType

__all__ = [
    "CfApp",
    "Instance",
    "Links",
    "Placed",
    "Process",
    "ProcessPage",
    "check_app",
    "error_title",
    "forbidden",
    "no_app",
    "none_running",
    "parse_app",
    "parse_permission",
    "parse_processes",
    "parse_root",
    "parse_stats",
    "pick",
    "refusal",
]

_ANSWER = AnswerReader("Cloud Controller's")

#: The form of GUIDs of apps and processes, which become part of URLs.
_GUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
#: The form of process types, which become part of URLs too; a comma would mean "or" there.
_TYPE = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,254}")
_TITLE = re.compile(r"[A-Za-z-]{1,50}")
_HANDLE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")

_RUNNING = "RUNNING"


@dataclass(frozen=True)
class Links:
    """The content of the root document.

    Attributes:
        v3: Path of the V3 API, without a final slash.
        uaa: URL of Cloud Controller's UAA.
        version: Version of the V3 API, such as 3.228.0.
    """

    v3: str
    uaa: str
    version: str


@dataclass(frozen=True)
class CfApp:
    """An app; its name is printable."""

    guid: str
    name: str


@dataclass(frozen=True)
class Process:
    """One process of an app.  During a rolling deployment there are two of the same type."""

    guid: str
    created_at: str


@dataclass(frozen=True)
class ProcessPage:
    """A page of processes, and the path and query of the next page."""

    processes: Tuple[Process, ...]
    next: Optional[str]


@dataclass(frozen=True)
class Instance:
    """One instance of a process.

    Attributes:
        host: IP address of the instance's cell; None while it has no cell.
        handle: Handle of its container; None if unknown.
        address: IP address of its container; None if unknown.
        uptime: Seconds in the present state.
        details: Why the instance cannot be placed on a cell.
    """

    index: int
    state: str
    host: Optional[str] = None
    handle: Optional[str] = None
    address: Optional[str] = None
    uptime: int = 0
    details: str = ""


# --- requests -------------------------------------------------------


def check_app(app: App) -> None:
    """Refuse values that must not become part of a URL.

    Raises:
        BadRequest: The GUID or the type is not valid.
    """
    if not _GUID.fullmatch(app.guid):
        raise BadRequest(f"{app.guid!r} is not the GUID of an app", "cf app NAME --guid shows it")
    if not _TYPE.fullmatch(app.type):
        raise BadRequest(f"{app.type!r} is not a process type", "it is usually web")


# --- answers ----------------------------------------------


def refusal(status: int, retry_after: Optional[str], guid: str) -> RequestError:
    """The error for an answer about an app whose status is not 200."""
    if status == 401:
        return Unauthenticated("Cloud Controller does not accept the token", CF_LOG_IN)
    if status == 403:
        return Forbidden(
            "Cloud Controller does not let this token read apps",
            "the required scope is cloud_controller.read",
        )
    if status == 404:
        return no_app(guid)
    if status == 429:
        seconds = retry_seconds(retry_after)
        limit = LimitReached(
            "Cloud Controller limits how often you may ask it",
            AGAIN if seconds is None else f"try again in {seconds} s",
        )
        limit.retry_after = seconds
        return limit
    if 300 <= status < 400:
        return ResolverUnavailable(
            f"Cloud Controller answered with a redirect ({status})",
            "ask the operator to set cloud_foundry.api to its own address",
        )
    return ResolverUnavailable(f"Cloud Controller answered with an error ({status})", AGAIN)


def error_title(answer: Mapping[str, Any]) -> str:
    """The title of the first error in an answer; empty if it has none."""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    title = first.get("title") if isinstance(first, dict) else None
    return title if isinstance(title, str) and _TITLE.fullmatch(title) else ""


def no_app(guid: str) -> TargetNotFound:
    """The error for an app that does not exist, or that the user cannot see."""
    # The same message whether or not the app exists, so that GUIDs cannot be guessed.
    return TargetNotFound(f"there is no app {guid}, or you may not see it", "cf apps lists those you may see")


def forbidden(user: str, app: CfApp, permission: str) -> Forbidden:
    """The error for an app that the user can see, but not capture."""
    return Forbidden(
        f"{user} may not capture app {app.name} ({app.guid}): Cloud Controller does not grant {permission}",
        "ask for the role of a space developer",
    )


def parse_root(body: bytes) -> Links:
    """Read ``GET /``.

    Raises:
        ResolverUnavailable: The answer is not from a Cloud Controller with a V3 API.
    """
    links = _ANSWER.member(_ANSWER.mapping(body, "/"), "links", dict, "/")
    v3 = links.get("cloud_controller_v3")
    path = urlsplit(_href(v3)).path.rstrip("/")
    if not path:
        raise ResolverUnavailable("there is no Cloud Controller with the V3 API at that address")
    meta = v3.get("meta") if isinstance(v3, dict) else None
    version = meta.get("version") if isinstance(meta, dict) else None
    return Links(
        path,
        printable(_href(links.get("uaa"))),
        printable(version) if isinstance(version, str) else "unknown",
    )


def _href(link: Any) -> str:
    href = link.get("href") if isinstance(link, dict) else None
    if not isinstance(href, str) or not href.startswith("https://"):
        return ""
    try:
        urlsplit(href)
    except ValueError:  # for example for https://[
        return ""
    return href


def parse_app(body: bytes, guid: str) -> CfApp:
    """Read ``GET /v3/apps/GUID``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    value = _ANSWER.mapping(body, "an app")
    if value.get("guid") != guid:
        raise _ANSWER.nonsense("an app")
    return CfApp(guid, printable(_ANSWER.member(value, "name", str, "an app")) or guid)


def parse_permission(body: bytes, permission: str) -> bool:
    """Read ``GET /v3/apps/GUID/permissions``: whether this permission is granted.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    return _ANSWER.mapping(body, "permissions").get(permission) is True


def parse_processes(body: bytes, authority: str) -> ProcessPage:
    """Read a page of ``GET /v3/apps/GUID/processes``.

    Args:
        authority: Host and port of Cloud Controller; the next page must be there too.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    what = "processes"
    value = _ANSWER.mapping(body, what)
    processes = tuple(
        Process(_ANSWER.matching(_GUID, entry, "guid", what), _ANSWER.member(entry, "created_at", str, what))
        for entry in _entries(value, what)
    )
    following = _ANSWER.member(value, "pagination", dict, what).get("next")
    if following is None:
        return ProcessPage(processes, None)
    url = urlsplit(_href(following))
    if url.netloc.lower() != authority.lower():
        raise ResolverUnavailable("the next page of Cloud Controller's answer is on another host")
    return ProcessPage(processes, f"{url.path}?{url.query}")


def _entries(value: Dict[str, Any], what: str) -> List[Dict[str, Any]]:
    return _ANSWER.entries(value.get("resources"), what)


def parse_stats(body: bytes) -> Tuple[Instance, ...]:
    """Read ``GET /v3/processes/GUID/stats``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    instances = tuple(_instance(entry) for entry in _entries(_ANSWER.mapping(body, _STATS), _STATS))
    if len({instance.index for instance in instances}) != len(instances):
        raise _ANSWER.nonsense(_STATS)
    return instances


_STATS = "process stats"


def _instance(entry: Dict[str, Any]) -> Instance:
    index = _ANSWER.member(entry, "index", int, _STATS)
    if not 0 <= index < INSTANCES_MAX:
        raise _ANSWER.nonsense(_STATS)
    uptime = entry.get("uptime")
    return Instance(
        index=index,
        state=printable(_ANSWER.member(entry, "state", str, _STATS)),
        host=_address(entry, "host"),
        handle=_ANSWER.matching(_HANDLE, entry, "instance_guid", _STATS)
        if entry.get("instance_guid")
        else None,
        address=_address(entry, "instance_internal_ip"),
        uptime=uptime if type(uptime) is int and uptime > 0 else 0,
        details=printable(entry["details"]) if isinstance(entry.get("details"), str) else "",
    )


def _address(entry: Dict[str, Any], key: str) -> Optional[str]:
    value = entry.get(key)
    if value is None or value == "":
        return None
    try:
        return str(ipaddress.ip_address(_ANSWER.member(entry, key, str, _STATS)))
    except ValueError as error:
        raise _ANSWER.nonsense(_STATS) from error


# --- selection ----------------------------------------------------


class Placed(NamedTuple):
    """An instance that can be captured: it is running, and its cell is known.

    Attributes:
        name: The name shown to the user.
        host: IP address of the cell.
    """

    name: str
    host: str
    process: Process
    instance: Instance


def pick(
    app: CfApp, wanted: App, processes: Sequence[Tuple[Process, Sequence[Instance]]]
) -> Tuple[Tuple[Placed, ...], Tuple[Notice, ...]]:
    """Select the instances that can be captured, with a notice for each that cannot.

    Args:
        processes: The processes of the requested type, with their instances.
    """
    picked: List[Placed] = []
    notices: List[Notice] = []
    newest_first = sorted(processes, key=lambda pair: pair[0].created_at, reverse=True)
    for number, (process, instances) in enumerate(newest_first):
        for instance in sorted(instances, key=lambda one: one.index):
            if wanted.indices and instance.index not in wanted.indices:
                continue
            name = _name(app, instance, process if number else None)
            problem = _problem(instance)
            if problem or instance.host is None:
                notices.append(Notice(NoticeType.INSTANCE_UNAVAILABLE, problem, name))
            else:
                picked.append(Placed(name, instance.host, process, instance))
    return tuple(picked), tuple(notices + _missing(app, wanted, processes))


def none_running(app: CfApp, wanted: App, notices: Sequence[Notice]) -> TargetNotFound:
    """The error for a request of which no instance can be captured."""
    if not notices:
        return TargetNotFound(
            f"app {app.name} has no process of type {wanted.type}, or no instance of it",
            f"cf app {app.name} shows what it has",
        )
    reasons = "; ".join(f"{notice.origin} {notice.message}" for notice in notices[:LISTED_MAX])
    more = f"; and {len(notices) - LISTED_MAX} more" if len(notices) > LISTED_MAX else ""
    return TargetNotFound(f"no instance of app {app.name} can be captured: {reasons}{more}", "is it started?")


def _name(app: CfApp, instance: Instance, older: Optional[Process]) -> str:
    """The name shown to the user: APP/INDEX, with a mark for an older process."""
    tail = f"/{instance.index}" + (f"@{older.guid[:8]}" if older is not None else "")
    return app.name[: NAME_MAX - len(tail)] + tail


def _problem(instance: Instance) -> str:
    if instance.state != _RUNNING:
        why = f" ({instance.details})" if instance.details else ""
        return f"is {instance.state}{why}"
    # Cloud Controller may not show the cell to some users.
    return "" if instance.host else "is running, but Cloud Controller does not show where"


def _missing(
    app: CfApp, wanted: App, processes: Sequence[Tuple[Process, Sequence[Instance]]]
) -> List[Notice]:
    there = {instance.index for _, instances in processes for instance in instances}
    has = f"app {app.name} has {len(there)} of type {wanted.type}"
    return [
        Notice(NoticeType.INSTANCE_UNAVAILABLE, f"does not exist: {has}", f"{app.name[:200]}/{index}")
        for index in wanted.indices
        if index not in there
    ]
