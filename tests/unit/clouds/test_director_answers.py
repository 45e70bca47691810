"""What a director's answers mean, and what follows from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pcapd.api.resolvers.director import choose
from pcapd.clouds import director
from pcapd.clouds.director import Vm
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
from pcapd.wire import CaptureStart, Deployment, NoticeType

UUID = "37747b53-7a56-460f-bdc7-f991d373cd7f"
OTHER = "b1946ac9-2f3e-4a0d-8a67-0d5a2f6f9f10"
#: As the director answers, composed after its documentation.
ENTRY = {
    "agent_id": "0c4f7f0e",
    "cid": "i-0abc",
    "job": "router",
    "index": 0,
    "id": UUID,
    "az": "z1",
    "ips": ["10.0.1.8"],
    "vm_created_at": "2026-11-01T10:00:00Z",
    "expects_vm": True,
}
INFO = {
    "name": "prod",
    "uuid": "7c1b3c1e",
    "version": "282.1.5 (00000000)",
    "user": None,
    "cpi": "aws_cpi",
    "user_authentication": {
        "type": "uaa",
        "options": {"url": "https://10.0.0.6:8443", "urls": ["https://10.0.0.6:8443"]},
    },
}
ROUTER = Vm("router", UUID, 0, "10.0.1.8", "z1")


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def instances(**changes: Any) -> bytes:
    entry = {**ENTRY, **changes}
    return body([{key: value for key, value in entry.items() if value is not ...}])


# --- instances ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ROUTER),
        ({"ips": ["10.0.1.8", "192.168.0.2"]}, ROUTER),
        ({"az": None}, Vm("router", UUID, 0, "10.0.1.8")),
        ({"ips": ["fd00::8"]}, Vm("router", UUID, 0, "fd00::8", "z1")),
        ({"ips": [], "cid": None, "agent_id": None}, Vm("router", UUID, 0, None, "z1")),
        ({"ips": None}, Vm("router", UUID, 0, None, "z1")),
        ({"ips": ..., "expects_vm": False}, Vm("router", UUID, 0, None, "z1", False)),
        ({"expects_vm": ...}, ROUTER),
        ({"something_new": {"a": 1}}, ROUTER),
        ({"az": "z\x1b[2J"}, Vm("router", UUID, 0, "10.0.1.8", "z?[2J")),
    ],
)
def test_instance(changes: dict[str, Any], expected: Vm) -> None:
    """An instance is read with its defaults for missing values."""
    assert director.parse_instances(instances(**changes)) == (expected,)


@pytest.mark.parametrize(
    "changes",
    [
        {"job": ...},
        {"job": None},
        {"job": "../x"},
        {"job": "a\nb"},
        {"job": "g" * 200},
        {"id": None},
        {"id": "a/b"},
        {"id": ""},
        {"index": "0"},
        {"index": True},
        {"index": None},
        {"index": -1},
        {"index": INSTANCES_MAX},
        {"ips": "10.0.1.8"},
        {"ips": ["router.example"]},
        {"ips": ["10.0.1.8/24"]},
        {"ips": [7]},
        {"ips": {"a": 1}},
    ],
)
def test_nonsense_instance(changes: dict[str, Any]) -> None:
    """An instance with values of wrong types makes the resolver unavailable."""
    with pytest.raises(ResolverUnavailable, match="instances makes no sense"):
        director.parse_instances(instances(**changes))


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"null", b"{}", b"[7]", b"[null]", b"[" * 6000, b"\xff", body([ENTRY, ENTRY])],
)
def test_no_instances(content: bytes) -> None:
    """A list of instances that is not one makes the resolver unavailable."""
    with pytest.raises(ResolverUnavailable):
        director.parse_instances(content)


def test_too_many_instances() -> None:
    """More instances than the bound make the resolver unavailable."""
    entries = [{**ENTRY, "index": 0, "id": f"id-{number}"} for number in range(INSTANCES_MAX + 1)]
    with pytest.raises(ResolverUnavailable, match=str(INSTANCES_MAX)):
        director.parse_instances(body(entries))


# --- what is chosen ----------------------------------------------------------

SECOND = Vm("router", OTHER, 1, "10.0.1.9", "z2")
CELL = Vm("diego-cell", "c0", 0, "10.0.2.1")
STOPPED = Vm("diego-cell", "c1", 1)
ERRAND = Vm("smoke-tests", "e0", 0, expected=False)
ALL = (SECOND, ROUTER, CELL, STOPPED, ERRAND)


@pytest.mark.parametrize(
    ("groups", "chosen", "names", "notices"),
    [
        # An errand nobody named is no news; a stopped VM is.
        ((), (), ["diego-cell/c0", f"router/{UUID}", f"router/{OTHER}"], ["diego-cell/c1: has no VM"]),
        (("router",), (), [f"router/{UUID}", f"router/{OTHER}"], []),
        (("router",), ("1",), [f"router/{OTHER}"], []),
        (("router",), (OTHER, "0"), [f"router/{UUID}", f"router/{OTHER}"], []),
        ((), ("0",), ["diego-cell/c0", f"router/{UUID}"], ["smoke-tests/e0: has no VM"]),
        ((), ("router/0",), [f"router/{UUID}"], []),
        (("router", "diego-cell"), (f"router/{UUID}", "c0"), ["diego-cell/c0", f"router/{UUID}"], []),
        (("smoke-tests",), (), [], ["smoke-tests/e0: has no VM"]),
        (
            ("router", "haproxy"),
            (),
            [f"router/{UUID}", f"router/{OTHER}"],
            ["deployment cf: there is no group haproxy in deployment cf"],
        ),
        (
            ("router",),
            ("0", "c0", "7"),
            [f"router/{UUID}"],
            [
                "deployment cf: there is no instance c0 in the group router",
                "deployment cf: there is no instance 7 in the group router",
            ],
        ),
        ((), ("diego-cell/0", "router/c0"), ["diego-cell/c0"], None),
        # No part of a name is enough.
        (("rout",), (UUID[:8],), [], None),
    ],
)
def test_choice(groups: Any, chosen: Any, names: list[str], notices: Any) -> None:
    """Groups and instances select VMs by name, and each that is missing gets a notice."""
    targets, said = choose(Deployment("cf", groups, chosen), ALL, 9494)
    assert [target.name for target in targets] == names
    if notices is not None:
        assert [f"{notice.origin}: {notice.message}" for notice in said] == notices
    else:
        assert said
    assert all(notice.type is NoticeType.INSTANCE_UNAVAILABLE for notice in said)


def test_target() -> None:
    """A VM itself is captured: no namespace, no container."""
    ((target,), _) = choose(Deployment("cf", ("router",), ("0",)), ALL, 1234)
    assert (target.host, target.port) == ("10.0.1.8", 1234)
    assert target.namespace is None and target.container is None


def test_long_names() -> None:
    """The longest names that are accepted still make a target that an agent accepts."""
    entry = {**ENTRY, "job": "g" * 190, "id": "i" * 64}
    (vm,) = director.parse_instances(body([entry]))
    assert len(vm.name) <= NAME_MAX
    CaptureStart("c", "r", vm.name)


def test_nothing() -> None:
    """Everything that is named and is not there is in the answer."""
    wanted = Deployment("cf", ("haproxy", "smoke-tests"), ("9",))
    targets, notices = choose(wanted, ALL, 9494)
    assert not targets
    error = director.nothing_there(wanted, notices)
    assert isinstance(error, TargetNotFound)
    assert "group haproxy" in error.message and "instance 9" in error.message and "cf" in error.hint


def test_nothing_at_all() -> None:
    """A deployment without any VM is reported as such."""
    assert "no VM" in director.nothing_there(Deployment("cf"), ()).message


def test_many_missing() -> None:
    """An error stays readable however much is missing."""
    wanted = Deployment("cf", tuple(f"g{number}" for number in range(500)))
    _, notices = choose(wanted, ALL, 9494)
    assert len(notices) == 500
    message = director.nothing_there(wanted, notices).message
    assert len(message) < 1000 and "and 490 more" in message


# --- names -------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        Deployment("cf", ("router",), ("0", UUID, f"router/{UUID}")),
        Deployment("service-instance_0d5a2f6f-9f10"),
        Deployment("cf-1.2", ("diego_cell",)),
    ],
)
def test_names(wanted: Deployment) -> None:
    """Names that BOSH allows are accepted."""
    director.check_deployment(wanted)


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "a b", "a?b", "a%2e", "a#b", "ä", "-a", "a" * 200, "a\u2028"]
)
def test_no_names(name: str) -> None:
    """A string that is not a BOSH name never becomes part of a URL."""
    for make in (lambda: Deployment(name), lambda: Deployment("cf", (name,))):
        try:
            wanted = make()
        except ValueError:
            continue  # not even a name on the wire
        with pytest.raises(BadRequest):
            director.check_deployment(wanted)


@pytest.mark.parametrize("id", ["../0", "a/b/c", "a b", "/0", "router/", "a.b", "ä", "i" * 65])
def test_no_instance(id: str) -> None:
    """A name that is not an instance id is a bad request."""
    with pytest.raises(BadRequest):
        director.check_deployment(Deployment("cf", (), (id,)))


# --- the director itself -----------------------------------------------------


def test_info() -> None:
    """The director's info gives its name, UUID, version and UAA."""
    info = director.parse_info(body(INFO))
    assert (info.name, info.uuid, info.version) == ("prod", "7c1b3c1e", "282.1.5 (00000000)")
    assert info.issuer.url == "https://10.0.0.6:8443"
    assert info.issuer.issued("https://10.0.0.6:8443/oauth/token")
    assert not info.issuer.issued("https://10.0.0.6/oauth/token")


def options(**changes: Any) -> bytes:
    given = {"url": "https://10.0.0.6:8443", "urls": ["https://uaa.bosh"], **changes}
    kept = {key: value for key, value in given.items() if value is not ...}
    return body({**INFO, "user_authentication": {"type": "uaa", "options": kept}})


def test_long_words() -> None:
    """The director's own name is cut to the length of other names."""
    info = director.parse_info(body({**INFO, "name": "x" * 9999, "version": "1" * 9999}))
    assert (info.name, info.version) == ("x" * NAME_MAX, "1" * NAME_MAX)


def test_other_urls() -> None:
    """An old director has only one; a trailing slash does not matter; a path is part of it."""
    assert director.parse_info(options(urls=...)).issuer.urls == ()
    assert director.parse_info(options(url="https://10.0.0.6:8443/")).issuer.url == "https://10.0.0.6:8443"
    assert director.parse_info(options(url="https://uaa.example/uaa")).issuer.issued(
        "https://uaa.example/uaa/oauth/token"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"url": ...},
        {"url": "http://10.0.0.6:8443"},
        {"url": "10.0.0.6:8443"},
        {"url": "https://u:p@10.0.0.6"},
        {"url": "https://[x"},
        {"url": "https://a b"},
        {"url": 7},
        {"urls": "https://x"},
        {"urls": {"https://uaa.example": 1}},
        {"urls": [7]},
        {"urls": ["ftp://x"]},
        {"url": f"https://{'a.' * 2000}b"},
    ],
)
def test_bad_uaa(changes: dict[str, Any]) -> None:
    """An info without a usable UAA makes the resolver unavailable."""
    with pytest.raises(ResolverUnavailable):
        _ = director.parse_info(options(**changes)).issuer


def test_without_uaa() -> None:
    """A director with its own users has no tokens that we could check."""
    with pytest.raises(ResolverUnavailable, match="not in UAA, but in basic"):
        director.parse_info(body({**INFO, "user_authentication": {"type": "basic", "options": {}}}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        body({**INFO, "uuid": None}),
        body({**INFO, "uuid": ""}),
        body({**INFO, "uuid": "a.b"}),
        body({**INFO, "name": 7}),
        body({**INFO, "user_authentication": "uaa"}),
    ],
)
def test_no_director(content: bytes) -> None:
    """An info that is not a director's makes the resolver unavailable."""
    with pytest.raises(ResolverUnavailable):
        director.parse_info(content)


# --- teams -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "teams"),
    [
        ([{"name": "cf", "teams": ["blue"]}], ("blue",)),
        ([{"name": "other", "teams": ["red"]}, {"name": "cf", "teams": []}], ()),
        ([{"name": "cf"}], ()),
        ([{"name": "cf2", "teams": ["blue"]}, {"name": "CF", "teams": ["blue"]}], None),
        ([], None),
    ],
)
def test_teams(listed: Any, teams: Any) -> None:
    """The teams of a deployment are read from the director's list."""
    assert director.parse_teams(body(listed), "cf") == teams


@pytest.mark.parametrize(
    "listed",
    [
        {},
        [7],
        [{"name": "cf", "teams": "blue"}],
        [{"name": "cf", "teams": [7]}],
        [{"name": "cf", "teams": [""]}],
    ],
)
def test_nonsense_teams(listed: Any) -> None:
    """A list of deployments that is not one makes the resolver unavailable."""
    with pytest.raises(ResolverUnavailable):
        director.parse_teams(body(listed), "cf")


# --- refusals ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (401, b"Not authorized: '/deployments'\n", Unauthenticated),
        (401, body({"code": 600000, "description": "Require one of the scopes"}), Forbidden),
        (403, b"", Forbidden),
        (404, body({"code": 70000, "description": "Deployment 'x' doesn't exist"}), TargetNotFound),
        (404, b"Endpoint '/x' not found.\n", ResolverUnavailable),
        (429, b"", LimitReached),
        (302, b"", ResolverUnavailable),
        (500, b"", ResolverUnavailable),
        (502, b"<html>", ResolverUnavailable),
        (204, b"", ResolverUnavailable),
        (401, b"[" * 6000, Unauthenticated),
    ],
)
def test_refusal(status: int, content: bytes, kind: type[RequestError]) -> None:
    """Each status of the director has its own kind of error, with a hint and without scopes."""
    error = director.refusal(status, content, "cf")
    assert type(error) is kind
    assert error.hint and "scopes" not in error.message
