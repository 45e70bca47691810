"""What Cloud Controller's answers mean.  Plain functions: no reactor, no sockets, no clock.

Sources: the V3 API documentation (https://v3-apidocs.cloudfoundry.org) and, for
what it leaves open, cloud_controller_ng's presenters: process_stats_presenter.rb
(a DOWN instance has no ``host`` at all, an unplaced or crashed one an empty one;
``instance_guid`` exists since API 3.192, ``instance_internal_ip`` since 3.149)
and v3_error_hasher.rb (the form of errors, whose ``detail`` is not to be relied
on).  Cloud Controller is believed, but what it says is checked: a value of the
wrong type or shape is an error here, never a surprise later.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pcapd.api.resolvers.base import Target
from pcapd.errors import (
    BadRequest,
    Forbidden,
    LimitReached,
    RequestError,
    ResolverUnavailable,
    TargetNotFound,
    Unauthenticated,
)
from pcapd.limits import INSTANCES_MAX, NAME_MAX
from pcapd.wire import App, Container, Notice, NoticeType

__all__ = [
    "LOG_IN",
    "CfApp",
    "Instance",
    "Links",
    "Page",
    "Process",
    "check_app",
    "choose",
    "forbidden",
    "none_running",
    "parse_app",
    "parse_permission",
    "parse_processes",
    "parse_root",
    "parse_stats",
    "refusal",
]

T = TypeVar("T")

#: GUIDs of apps and processes become part of URLs.
_GUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
#: So do process types; a comma would mean "or" there.
_TYPE = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,254}")
_HANDLE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")

_RUNNING = "RUNNING"
_AGAIN = "try again later"
#: How to get a good token.
LOG_IN = "log in again: cf login"


@dataclass(frozen=True)
class Links:
    """What the root document says.

    Attributes:
        v3: Path of the V3 API, without a final slash.
        uaa: URL of the UAA that it belongs to.
        version: Of the API, such as 3.228.0.
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
    """One process of an app.  While a deployment rolls there are two of one type."""

    guid: str
    created_at: str


@dataclass(frozen=True)
class Page:
    """A page of processes, and the path and query of the next."""

    processes: tuple[Process, ...]
    next: str | None


@dataclass(frozen=True)
class Instance:
    """One instance of a process.

    Attributes:
        host: IP address of its cell; None while it is on none.
        handle: Of its container, where it is told.
        address: Of its container, where it is told.
        uptime: Seconds in this state.
        details: Why it cannot be placed.
    """

    index: int
    state: str
    host: str | None = None
    handle: str | None = None
    address: str | None = None
    uptime: int = 0
    details: str = ""


# --- what we are asked -------------------------------------------------------


def check_app(app: App) -> None:
    """Refuse what must not become part of a URL.

    Raises:
        BadRequest: The GUID is none, or the type.
    """
    if not _GUID.fullmatch(app.guid):
        raise BadRequest(f"{app.guid!r} is no GUID of an app", "cf app NAME --guid shows it")
    if not _TYPE.fullmatch(app.type):
        raise BadRequest(f"{app.type!r} is no process type", "it is usually web")


# --- what Cloud Controller says ----------------------------------------------


def refusal(status: int, retry_after: str | None, guid: str) -> RequestError:
    """The error for any answer but 200 to a question about an app."""
    if status == 401:
        return Unauthenticated("Cloud Controller does not accept the token", LOG_IN)
    if status == 403:
        return Forbidden(
            "Cloud Controller does not let this token read apps", "it needs the scope cloud_controller.read"
        )
    if status == 404:
        return _no_app(guid)
    if status == 429:
        seconds = (retry_after or "").strip()
        known = seconds.isascii() and seconds.isdigit() and len(seconds) < 6
        limit = LimitReached(
            "Cloud Controller limits how often you may ask it",
            f"try again in {int(seconds)} s" if known else _AGAIN,
        )
        limit.retry_after = int(seconds) if known else None
        return limit
    if 300 <= status < 400:
        return ResolverUnavailable(
            f"Cloud Controller answered with a redirect ({status})",
            "cloud_foundry.api must be its own address; tell the operator",
        )
    return ResolverUnavailable(f"Cloud Controller answered with an error ({status})", _AGAIN)


def _no_app(guid: str) -> TargetNotFound:
    # The same words whether it exists: GUIDs are not to be probed.
    return TargetNotFound(f"there is no app {guid}, or you may not see it", "cf apps lists those you may see")


def forbidden(user: str, app: CfApp, permission: str) -> Forbidden:
    """The error for an app that the caller sees, but whose packets they may not read."""
    return Forbidden(
        f"{user} may not capture app {app.name} ({app.guid}): Cloud Controller does not grant {permission}",
        "ask for the role of a space developer",
    )


def parse_root(body: bytes) -> Links:
    """Read ``GET /``.

    Raises:
        ResolverUnavailable: It is not Cloud Controller's, or one without the V3 API.
    """
    links = _member(_object(body, "/"), "links", dict, "/")
    v3 = links.get("cloud_controller_v3")
    path = urlsplit(_href(v3)).path.rstrip("/")
    if not path:
        raise ResolverUnavailable("there is no Cloud Controller with the V3 API at that address")
    meta = v3.get("meta") if isinstance(v3, dict) else None
    version = meta.get("version") if isinstance(meta, dict) else None
    return Links(
        path,
        _printable(_href(links.get("uaa"))),
        _printable(version) if isinstance(version, str) else "unknown",
    )


def _href(link: Any) -> str:
    href = link.get("href") if isinstance(link, dict) else None
    if not isinstance(href, str) or not href.startswith("https://"):
        return ""
    try:
        urlsplit(href)
    except ValueError:  # such as https://[
        return ""
    return href


def parse_app(body: bytes, guid: str) -> CfApp:
    """Read ``GET /v3/apps/GUID``.

    Raises:
        ResolverUnavailable: It is not that.
    """
    value = _object(body, "an app")
    if value.get("guid") != guid:
        raise _nonsense("an app")
    return CfApp(guid, _printable(_member(value, "name", str, "an app")) or guid)


def parse_permission(body: bytes, permission: str) -> bool:
    """Read ``GET /v3/apps/GUID/permissions``: is this one granted?

    Raises:
        ResolverUnavailable: It is not that.
    """
    return _object(body, "permissions").get(permission) is True


def parse_processes(body: bytes, authority: str) -> Page:
    """Read a page of ``GET /v3/apps/GUID/processes``.

    Args:
        authority: Host and port of Cloud Controller: nobody else is asked for the next page.

    Raises:
        ResolverUnavailable: It is not that.
    """
    what = "processes"
    value = _object(body, what)
    processes = tuple(
        Process(_matching(_GUID, entry, "guid", what), _member(entry, "created_at", str, what))
        for entry in _entries(value, what)
    )
    following = _member(value, "pagination", dict, what).get("next")
    if following is None:
        return Page(processes, None)
    url = urlsplit(_href(following))
    if url.netloc.lower() != authority.lower():
        raise ResolverUnavailable("the next page of Cloud Controller's answer is somewhere else")
    return Page(processes, f"{url.path}?{url.query}")


def parse_stats(body: bytes) -> tuple[Instance, ...]:
    """Read ``GET /v3/processes/GUID/stats``.

    Raises:
        ResolverUnavailable: It is not that.
    """
    instances = tuple(_instance(entry) for entry in _entries(_object(body, _STATS), _STATS))
    if len({instance.index for instance in instances}) != len(instances):
        raise _nonsense(_STATS)
    return instances


_STATS = "process stats"


def _instance(entry: dict[str, Any]) -> Instance:
    index = _member(entry, "index", int, _STATS)
    if not 0 <= index < INSTANCES_MAX:
        raise _nonsense(_STATS)
    uptime = entry.get("uptime")
    return Instance(
        index=index,
        state=_printable(_member(entry, "state", str, _STATS)),
        host=_address(entry, "host"),
        handle=_matching(_HANDLE, entry, "instance_guid", _STATS) if entry.get("instance_guid") else None,
        address=_address(entry, "instance_internal_ip"),
        uptime=uptime if type(uptime) is int and uptime > 0 else 0,
        details=_printable(entry["details"]) if isinstance(entry.get("details"), str) else "",
    )


def _address(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    if value is None or value == "":
        return None
    try:
        return str(ipaddress.ip_address(_member(entry, key, str, _STATS)))
    except ValueError as error:
        raise _nonsense(_STATS) from error


# --- what follows from it ----------------------------------------------------


def choose(
    app: CfApp,
    wanted: App,
    processes: Sequence[tuple[Process, Sequence[Instance]]],
    port: int,
    now_us: int,
) -> tuple[tuple[Target, ...], tuple[Notice, ...]]:
    """The instances that can be captured, and a notice for each that cannot.

    Args:
        processes: Of the wanted type, with their instances.
        port: Of agents.
        now_us: When Cloud Controller was asked.
    """
    targets: list[Target] = []
    notices: list[Notice] = []
    newest_first = sorted(processes, key=lambda pair: pair[0].created_at, reverse=True)
    for number, (process, instances) in enumerate(newest_first):
        for instance in sorted(instances, key=lambda one: one.index):
            if wanted.indices and instance.index not in wanted.indices:
                continue
            name = _name(app, instance, process if number else None)
            problem = _problem(instance)
            if problem:
                notices.append(Notice(NoticeType.INSTANCE_UNAVAILABLE, problem, name))
            else:
                targets.append(_target(app, process, instance, name, port, now_us))
    return tuple(targets), tuple(notices + _missing(app, wanted, processes))


def none_running(app: CfApp, wanted: App, notices: Sequence[Notice]) -> TargetNotFound:
    """The error for a request of which nothing can be captured."""
    if not notices:
        return TargetNotFound(
            f"app {app.name} has no process of type {wanted.type}, or no instance of it",
            f"cf app {app.name} shows what it has",
        )
    words = "; ".join(f"{notice.origin} {notice.message}" for notice in notices[:_NAMED])
    more = f"; and {len(notices) - _NAMED} more" if len(notices) > _NAMED else ""
    return TargetNotFound(f"no instance of app {app.name} can be captured: {words}{more}", "is it started?")


#: Instances that an error names one by one.
_NAMED = 10


def _name(app: CfApp, instance: Instance, older: Process | None) -> str:
    """As the user sees it: APP/INDEX; that of an older process, in a rolling deployment, is marked."""
    tail = f"/{instance.index}" + (f"@{older.guid[:8]}" if older is not None else "")
    return app.name[: NAME_MAX - len(tail)] + tail


def _problem(instance: Instance) -> str:
    if instance.state != _RUNNING:
        why = f" ({instance.details})" if instance.details else ""
        return f"is {instance.state}{why}"
    # Cloud Controller may one day hide it from those who may not know.
    return "" if instance.host else "is running, but Cloud Controller does not say where"


def _target(  # noqa: PLR0917
    app: CfApp, process: Process, instance: Instance, name: str, port: int, now_us: int
) -> Target:
    assert instance.host is not None  # or `_problem` would have said so
    container = Container(app.guid, instance.index, instance.handle, instance.address, process.guid)
    started = now_us - instance.uptime * 1_000_000
    return Target(name, instance.host, port, container=container, started_us=started)


def _missing(
    app: CfApp, wanted: App, processes: Sequence[tuple[Process, Sequence[Instance]]]
) -> list[Notice]:
    there = {instance.index for _, instances in processes for instance in instances}
    has = f"app {app.name} has {len(there)} of type {wanted.type}"
    return [
        Notice(NoticeType.INSTANCE_UNAVAILABLE, f"does not exist: {has}", f"{app.name[:200]}/{index}")
        for index in wanted.indices
        if index not in there
    ]


# --- reading JSON ------------------------------------------------------------


def _nonsense(what: str) -> ResolverUnavailable:
    return ResolverUnavailable(f"Cloud Controller's answer about {what} makes no sense", _AGAIN)


def _object(body: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _nonsense(what) from error
    if not isinstance(value, dict):
        raise _nonsense(what)
    return value


def _member(value: dict[str, Any], key: str, kind: type[T], what: str) -> T:
    member = value.get(key)
    if type(member) is not kind:  # exact: a JSON true is no number
        raise _nonsense(what)
    return member


def _matching(pattern: re.Pattern[str], value: dict[str, Any], key: str, what: str) -> str:
    text = _member(value, key, str, what)
    if not pattern.fullmatch(text):
        raise _nonsense(what)
    return text


def _entries(value: dict[str, Any], what: str) -> list[dict[str, Any]]:
    entries = _member(value, "resources", list, what)
    if not all(isinstance(entry, dict) for entry in entries):
        raise _nonsense(what)
    return entries


def _printable(text: str) -> str:
    """What may be shown and logged: at most `NAME_MAX` characters, none of them a control."""
    return "".join(character if character.isprintable() else "?" for character in text[:NAME_MAX])
