"""What Cloud Controller's answers mean: the pure part of the Cloud Foundry resolver."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.api.resolvers.cc import choose
from pcapd.clouds import cloudcontroller as cc
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
from pcapd.wire import App, NoticeType

GUID = "1cb006ee-fb05-47e1-b541-c34179ddc446"
APP = cc.CfApp(GUID, "myapp")
WEB = cc.Process("p1111111-0000", "2026-01-01T00:00:00Z")
NEWER = cc.Process("p2222222-0000", "2026-02-01T00:00:00Z")
HANDLE = "5f0c2b7e-91aa-4c1e-6d3b-2f10"
NOW = 1_800_000_000_000_000

RUNNING = cc.Instance(0, "RUNNING", "10.0.16.21", HANDLE, "10.255.93.167", 120)


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def stats(**changes: Any) -> bytes:
    entry = {"index": 0, "state": "RUNNING", "host": "10.0.16.21", "instance_guid": HANDLE, "uptime": 7}
    merged = {**entry, **changes}
    return body({"resources": [{key: value for key, value in merged.items() if value is not ...}]})


# --- stats ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, cc.Instance(0, "RUNNING", "10.0.16.21", HANDLE, None, 7)),
        (
            {"instance_internal_ip": "10.255.93.167"},
            cc.Instance(0, "RUNNING", "10.0.16.21", HANDLE, "10.255.93.167", 7),
        ),
        ({"instance_guid": ...}, cc.Instance(0, "RUNNING", "10.0.16.21", None, None, 7)),
        (
            {"state": "CRASHED", "host": "", "instance_guid": "", "instance_internal_ip": ""},
            cc.Instance(0, "CRASHED", uptime=7),
        ),
        (
            {"state": "DOWN", "host": ..., "instance_guid": ..., "details": "no room", "uptime": 0},
            cc.Instance(0, "DOWN", details="no room"),
        ),
        ({"host": None, "instance_guid": None}, cc.Instance(0, "RUNNING", uptime=7)),
        ({"host": "fd00::1"}, cc.Instance(0, "RUNNING", "fd00::1", HANDLE, None, 7)),
        ({"uptime": "x", "usage": {}, "new": [1]}, cc.Instance(0, "RUNNING", "10.0.16.21", HANDLE)),
        ({"state": "\x1b[2J"}, cc.Instance(0, "?[2J", "10.0.16.21", HANDLE, None, 7)),
    ],
)
def test_stats(changes: dict[str, Any], expected: cc.Instance) -> None:
    """Every state, and every age of Cloud Controller, is understood."""
    assert cc.parse_stats(stats(**changes)) == (expected,)


@pytest.mark.parametrize(
    "changes",
    [
        {"index": ...},
        {"index": True},
        {"index": -1},
        {"index": INSTANCES_MAX},
        {"state": ...},
        {"state": 7},
        {"host": "cell.example.test"},
        {"host": 7},
        {"host": "10.0.16.21; rm -rf /"},
        {"instance_guid": "../../etc"},
        {"instance_guid": 7},
        {"instance_internal_ip": "nowhere"},
    ],
)
def test_stats_that_make_no_sense(changes: dict[str, Any]) -> None:
    """A value of the wrong type or shape is refused whole: nothing is guessed about containers."""
    with pytest.raises(ResolverUnavailable, match="makes no sense"):
        cc.parse_stats(stats(**changes))


def test_an_index_twice() -> None:
    """Two stats entries of one index are refused."""
    (entry,) = json.loads(stats())["resources"]
    with pytest.raises(ResolverUnavailable):
        cc.parse_stats(body({"resources": [entry, entry]}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("index", "state", "host", "instance_guid", "instance_internal_ip", "uptime", "details", "type")


@given(st.dictionaries(st.sampled_from(KEYS), json_values))
def test_any_stats(changes: dict[str, Any]) -> None:
    """Stats with any values are understood or refused, and raise nothing else."""
    try:
        instances = cc.parse_stats(stats(**changes))
    except ResolverUnavailable:
        return
    choose(APP, App(GUID), [(WEB, instances)], 9494, NOW)


@given(st.binary(max_size=200) | json_values.map(body))
def test_any_body(content: bytes) -> None:
    """Any body of an answer is read or raises a `ResolverUnavailable`."""
    readers: list[Any] = [
        cc.parse_root,
        cc.parse_stats,
        lambda data: cc.parse_app(data, GUID),
        lambda data: cc.parse_permission(data, "read_sensitive_data"),
        lambda data: cc.parse_processes(data, "api.example.test"),
    ]
    for read in readers:
        try:
            read(content)
        except ResolverUnavailable:
            continue


# --- what is chosen ---------------------------------------------------------


def test_target() -> None:
    """A running instance is captured on its cell, by its container."""
    targets, notices = choose(APP, App(GUID), [(WEB, [RUNNING])], 9494, NOW)
    (target,) = targets
    assert (target.name, target.host, target.port, target.namespace) == ("myapp/0", "10.0.16.21", 9494, None)
    container = target.container
    assert container is not None
    assert (container.app, container.index, container.process) == (GUID, 0, WEB.guid)
    assert (container.handle, container.address) == (HANDLE, "10.255.93.167")
    assert target.started_us == NOW - 120_000_000
    assert notices == ()


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        (cc.Instance(1, "CRASHED"), "is CRASHED"),
        (cc.Instance(1, "STARTING"), "is STARTING"),
        (cc.Instance(1, "STARTING", "10.0.16.22", "h"), "is STARTING"),
        (cc.Instance(1, "STOPPING", "10.0.16.22", "h"), "is STOPPING"),
        (cc.Instance(1, "DOWN", details="no room"), "is DOWN (no room)"),
        (cc.Instance(1, "RUNNING"), "does not show where"),
    ],
)
def test_unavailable(instance: cc.Instance, words: str) -> None:
    """Instances that are not running are listed by name with the reason, beside the others."""
    targets, notices = choose(APP, App(GUID), [(WEB, [instance, RUNNING])], 9494, NOW)
    assert [target.name for target in targets] == ["myapp/0"]
    (notice,) = notices
    assert (notice.type, notice.origin) == (NoticeType.INSTANCE_UNAVAILABLE, "myapp/1")
    assert words in notice.message


def test_indices() -> None:
    """Only the requested indices are captured and reported; missing ones are named."""
    instances = [cc.Instance(index, "RUNNING", "10.0.16.21", f"h{index}") for index in range(4)]
    instances[3] = cc.Instance(3, "CRASHED")
    targets, notices = choose(APP, App(GUID, indices=(2, 0, 9)), [(WEB, instances)], 9494, NOW)
    assert [target.name for target in targets] == ["myapp/0", "myapp/2"]
    assert [notice.origin for notice in notices] == ["myapp/9"]
    assert "does not exist: app myapp has 4 of type web" in notices[0].message


def test_rolling() -> None:
    """The newest process has the plain names; nothing is named twice."""
    processes = [(WEB, [RUNNING]), (NEWER, [cc.Instance(0, "RUNNING", "10.0.16.22", "h2")])]
    for order in (processes, processes[::-1]):
        targets, _ = choose(APP, App(GUID), order, 9494, NOW)
        assert [(target.name, target.host) for target in targets] == [
            ("myapp/0", "10.0.16.22"),
            ("myapp/0@p1111111", "10.0.16.21"),
        ]


def test_long_name() -> None:
    """A name never grows beyond what the wire carries, and keeps its index."""
    app = cc.CfApp(GUID, "x" * NAME_MAX)
    instances = [cc.Instance(index, "RUNNING", "10.0.16.21", "h") for index in (0, 9999)]
    targets, _ = choose(app, App(GUID), [(WEB, instances), (NEWER, instances)], 9494, NOW)
    assert all(len(target.name) <= NAME_MAX for target in targets)
    assert len({target.name for target in targets}) == 4


def test_nothing_to_capture() -> None:
    """The error for nothing to capture has the reason, and a bounded list."""
    notices = [cc.Notice(NoticeType.INSTANCE_UNAVAILABLE, "is DOWN", f"myapp/{i}") for i in range(500)]
    error = cc.none_running(APP, App(GUID), notices)
    assert "myapp/9 is DOWN; and 490 more" in error.message and error.status == 404
    assert "no process of type worker" in cc.none_running(APP, App(GUID, "worker"), []).message


# --- the others -------------------------------------------------------------


def test_root() -> None:
    """The root document names the V3 API and the UAA; null links are normal."""
    links = {
        "cloud_controller_v3": {"href": "https://api.example.test/v3/", "meta": {"version": "3.228.0"}},
        "uaa": {"href": "https://uaa.example.test"},
        "credhub": None,
    }
    assert cc.parse_root(body({"links": links})) == cc.Links("/v3", "https://uaa.example.test", "3.228.0")
    del links["uaa"]
    links["cloud_controller_v3"].pop("meta")  # type: ignore[union-attr]
    assert cc.parse_root(body({"links": links})) == cc.Links("/v3", "", "unknown")


@pytest.mark.parametrize(
    "links",
    [
        {},
        {"cloud_controller_v3": None},
        {"cloud_controller_v3": {"href": "http://a/v3"}},
        {"cloud_controller_v3": {"href": "https://[a/v3"}},
        [],
        7,
    ],
)
def test_root_of_something_else(links: Any) -> None:
    """A root document without the V3 API is not Cloud Controller's."""
    with pytest.raises(ResolverUnavailable):
        cc.parse_root(body({"links": links}))


@pytest.mark.parametrize("granted", [False, None, "true", 1, ...])
def test_permission(granted: Any) -> None:
    """Only a JSON true grants a permission."""
    value = {} if granted is ... else {"read_sensitive_data": granted}
    assert cc.parse_permission(body({**value, "read_basic_data": True}), "read_sensitive_data") is False
    assert cc.parse_permission(body({"read_sensitive_data": True}), "read_sensitive_data") is True


def test_another_app() -> None:
    """An answer about another app is refused."""
    with pytest.raises(ResolverUnavailable):
        cc.parse_app(body({"guid": "other", "name": "x"}), GUID)
    assert cc.parse_app(body({"guid": GUID, "name": "a\nb"}), GUID).name == "a?b"


@pytest.mark.parametrize(
    ("href", "following"),
    [
        (None, None),
        ("https://api.example.test/v3/x?page=2&types=web", "/v3/x?page=2&types=web"),
        ("https://API.example.test/v3/x?page=2", "/v3/x?page=2"),
    ],
)
def test_pages(href: Any, following: Any) -> None:
    """The link to the next page is followed unchanged."""
    pagination = {"next": href and {"href": href}}
    resources = [{"guid": "p1", "created_at": "2026-01-01T00:00:00Z"}]
    page = cc.parse_processes(body({"pagination": pagination, "resources": resources}), "api.example.test")
    assert page.next == following and page.processes[0].guid == "p1"


@pytest.mark.parametrize(
    ("href", "resources"),
    [
        *((None, resources) for resources in ([7], [None], {}, None)),
        ("https://evil.example.test/v3/x", []),
        ("http://api.example.test/v3/x", []),
        ("https://api.example.test@evil.example.test/v3/x", []),
        ("https://api.example.test:444/v3/x", []),
        ("//api.example.test/v3/x", []),
        ("/v3/x", []),
        ("https://[api.example.test/v3/x", []),
        (7, []),
    ],
)
def test_bad_pages(href: Any, resources: Any) -> None:
    """A page is refused whose resources are not objects, or whose next page is not of the configured host."""
    content = body({"pagination": {"next": href and {"href": href}}, "resources": resources})
    with pytest.raises(ResolverUnavailable):
        cc.parse_processes(content, "api.example.test")


@pytest.mark.parametrize(
    ("status", "retry_after", "kind", "words"),
    [
        (401, None, Unauthenticated, "cf login"),
        (403, None, Forbidden, "cloud_controller.read"),
        (404, None, TargetNotFound, "or you may not see it"),
        (429, "37", LimitReached, "in 37 s"),
        (429, " 5 ", LimitReached, "in 5 s"),
        (429, "Fri, 31 Dec 2026 23:59:59 GMT", LimitReached, "later"),
        (429, "9" * 50, LimitReached, "later"),
        # Digits, but of no number; and of a number, but not of HTTP's.
        (429, "²", LimitReached, "later"),
        (429, "٣٧", LimitReached, "later"),
        (429, None, LimitReached, "later"),
        (301, None, ResolverUnavailable, "redirect"),
        (200 + 4, None, ResolverUnavailable, "(204)"),
        (500, None, ResolverUnavailable, "(500)"),
        (503, "1", ResolverUnavailable, "(503)"),
    ],
)
def test_refusals(status: int, retry_after: Any, kind: type[RequestError], words: str) -> None:
    """Each refusal has its own kind and message."""
    error = cc.refusal(status, retry_after, GUID)
    assert type(error) is kind and words in str(error)


@pytest.mark.parametrize("guid", ["", "-x", "a/b", "..", "a b", "a?b", "a%2fb", "é", "x" * 65, "a\n"])
def test_guids(guid: str) -> None:
    """A GUID with characters of URLs is refused."""
    with pytest.raises((BadRequest, ValueError)):
        cc.check_app(App(guid))
    cc.check_app(App(GUID))


@pytest.mark.parametrize("process_type", ["web,worker", "..", "a/b", "a b", "é", "x" * 256, "&x"])
def test_types(process_type: str) -> None:
    """A process type with characters of URLs, or a comma, is refused."""
    with pytest.raises(BadRequest):
        cc.check_app(App(GUID, process_type))
