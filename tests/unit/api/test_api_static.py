"""Static users and targets: who is known, and what they may name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from demo.certificates import Credentials
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.api.resolvers.static import StaticResolver
from pcapd.config.schema import StaticTarget
from pcapd.errors import Forbidden, RequestError, TargetNotFound, Unauthenticated
from pcapd.wire import Request
from tests.kit.unit.api import BOB, TOKEN, config

#: Whose share it is matters to no resolver that answers at once.
CLIENT = "203.0.113.7"


@pytest.fixture
def resolver(credentials: Credentials) -> StaticResolver:
    static = config(credentials).static
    assert static is not None
    return StaticResolver(static)


def resolved(deferred: Deferred[Resolved]) -> Any:
    """What a Deferred that has fired holds; a failure is raised."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def test_a_user_gets_the_targets_that_they_name(resolver: StaticResolver) -> None:
    """The token says who it is, the configuration where the target is."""
    expected = Resolved("alice", (Target("web-1", "198.51.100.2", 9494, "web-1"),), identity="static:alice")
    assert resolved(resolver.resolve(Request(("web-1",)), TOKEN, CLIENT)) == expected


def test_targets_keep_the_order_of_the_request(resolver: StaticResolver) -> None:
    """All named targets are found, in the order of the request."""
    answer = resolved(resolver.resolve(Request(("web-2", "web-0")), TOKEN, CLIENT))
    assert [target.name for target in answer.targets] == ["web-2", "web-0"]


@pytest.mark.parametrize("token", ["wrong", "", TOKEN + "x", TOKEN.lower(), "tökén", "\ud800", "\0"])
def test_an_unknown_token(resolver: StaticResolver, token: str) -> None:
    """An unknown token is refused, and the message does not repeat it."""
    with pytest.raises(Unauthenticated) as refused:
        resolved(resolver.resolve(Request(("web-0",)), token, CLIENT))
    assert token == "" or token not in str(refused.value)


def test_a_target_of_others(resolver: StaticResolver) -> None:
    """One forbidden target refuses the whole request."""
    with pytest.raises(Forbidden, match="'web-1'"):
        resolved(resolver.resolve(Request(("web-0", "web-1")), BOB, CLIENT))


def test_a_target_that_is_not_there(resolver: StaticResolver) -> None:
    """A user who may name any target is shown the existing ones."""
    with pytest.raises(TargetNotFound, match=r"'web-9'.*web-0, web-1, web-2"):
        resolved(resolver.resolve(Request(("web-9",)), TOKEN, CLIENT))


def test_not_all_of_many_targets_are_named(credentials: Credentials) -> None:
    """An error stays readable however many targets there are."""
    static = config(credentials).static
    assert static is not None
    many = {f"cell-{number:03}": StaticTarget("198.51.100.1", 9494) for number in range(500)}
    resolver = StaticResolver(dataclasses.replace(static, targets=many))
    with pytest.raises(TargetNotFound) as refused:
        resolved(resolver.resolve(Request(("web-9",)), TOKEN, CLIENT))
    assert "cell-000, cell-001" in refused.value.hint and len(refused.value.hint) < 500


def test_names_cannot_be_probed(resolver: StaticResolver) -> None:
    """A user who may not name a target cannot learn whether it exists."""
    words = []
    for name in ("web-1", "web-9"):
        with pytest.raises(RequestError) as refused:
            resolved(resolver.resolve(Request((name,)), BOB, CLIENT))
        words.append((refused.value.code, str(refused.value).replace(name, "NAME")))
    assert words[0] == words[1]
