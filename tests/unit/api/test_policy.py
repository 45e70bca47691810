"""What the operator's policy makes of a request."""

from __future__ import annotations

import pytest

from pcapd.api.policy import permitted, still_permitted, unconfirmed
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.config.schema import PolicyConfig
from pcapd.errors import BadRequest, Forbidden
from pcapd.wire import NoticeType, Request, Source

RESOLVED = Resolved("alice", (Target("web-0", "192.0.2.1", 9494),), identity="static:alice")
LESS = Resolved("alice", RESOLVED.targets, headers_only=True, identity="static:alice")
WHOLE, CUT = Request(("web-0",)), Request(("web-0",), headers_only=True)


def test_without_a_policy() -> None:
    """Without a policy a request is unchanged."""
    assert permitted(PolicyConfig(), WHOLE, RESOLVED) == (WHOLE, RESOLVED)
    assert permitted(PolicyConfig(), CUT, RESOLVED) == (CUT, RESOLVED)


@pytest.mark.parametrize(
    ("policy", "resolved", "why"),
    [
        (PolicyConfig(headers_only=True), RESOLVED, "this api allows nothing else"),
        (PolicyConfig(), LESS, "your permissions allow nothing else"),
        (PolicyConfig(headers_only=True), LESS, "this api allows nothing else"),
    ],
)
def test_headers_only(policy: PolicyConfig, resolved: Resolved, why: str) -> None:
    """Requests for more than headers get a notice; others do not."""
    request, told = permitted(policy, WHOLE, resolved)
    assert request == CUT
    (notice,) = told.notices
    assert notice.type is NoticeType.LIMIT_REACHED and why in notice.message
    assert permitted(policy, CUT, resolved) == (CUT, resolved)


def test_allowed_interfaces() -> None:
    """The first allowed interface is the default; another one is refused with the list."""
    policy = PolicyConfig(devices=("eth0", "lo"))
    assert permitted(policy, WHOLE, RESOLVED)[0].interfaces == ("eth0",)
    both = Request(("web-0",), interfaces=("lo", "eth0"))
    assert permitted(policy, both, RESOLVED)[0] is both
    for names in (("eth1",), ("eth0", "eth1"), ("any",), ("ETH0",), ("eth0 ",)):
        with pytest.raises(Forbidden, match="may not be captured") as refused:
            permitted(policy, Request(("web-0",), interfaces=names), RESOLVED)
        assert "eth0, lo" in refused.value.hint


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_that_is_required(reason: str) -> None:
    """A request without a reason is refused where the operator wants one, and the hint names the option."""
    policy = PolicyConfig(require_reason=True)
    with pytest.raises(BadRequest, match="requires a reason") as refused:
        permitted(policy, Request(("web-0",), reason=reason), RESOLVED)
    assert "--reason" in refused.value.hint
    given = Request(("web-0",), reason="TICKET-7: resets")
    assert permitted(policy, given, RESOLVED) == (given, RESOLVED)


def test_what_is_allowed_while_it_runs() -> None:
    """A user who loses the right to payloads gets no further instance whole."""
    assert still_permitted(WHOLE, RESOLVED) is RESOLVED
    assert still_permitted(CUT, LESS) is LESS
    with pytest.raises(Forbidden, match="headers only"):
        still_permitted(WHOLE, LESS)


def test_an_agent_that_does_not_know_the_rules() -> None:
    """An agent that confirms no rules, or fewer than requested, is not used."""
    source = Source("web-0", "eth0", 1, 64, "", excludes_api=True)
    assert unconfirmed(WHOLE, (), source) == ""
    assert "headers" in unconfirmed(CUT, (), source)
    assert "exclude" in unconfirmed(WHOLE, ("port 22",), source)
    obedient = Source("web-0", "eth0", 1, 64, "", headers_only=True, exclude_filters=1, excludes_api=True)
    assert unconfirmed(CUT, ("port 22",), obedient) == ""
    assert "exclude" in unconfirmed(CUT, ("port 22", "port 23"), obedient)
