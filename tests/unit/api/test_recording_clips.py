"""Clips of recordings, the parts without a store: what is asked for, what the ring holds, hooks, triggers."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Optional

import pytest
from twisted.internet.task import Clock

from pcapd.api.recordings.explained import bounded
from pcapd.api.recordings.hooks import fits, hashed, new_key, reason_of
from pcapd.api.recordings.keeping import Ring
from pcapd.api.recordings.splice import Stored
from pcapd.api.recordings.triggers import Trigger, lost_instance, trigger_request
from pcapd.api.recordings.values import Cut, Order
from pcapd.errors import BadRequest, RequestError
from pcapd.limits import CLIP_FINDINGS_MAX, CLIP_INTERVAL, CLIP_MAX, FILTER_MAX, TRIGGER_SNAPLEN
from pcapd.net.clock import now_us
from pcapd.wire import Notice, NoticeType, Request
from tests.kit.unit.api import Make, Network, Sink, record

ORDER: dict[str, Any] = {"targets": ["web-0"]}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, (None, 120, 30, False)),
        ({"clip_on": "crash", "before": 5, "after": 0, "explain": True}, ("crash", 5, 0, True)),
        ({"clip_on": {"filter": "icmp"}, "before": 1.5}, ({"filter": "icmp"}, 1, 30, False)),
    ],
)
def test_an_order(given: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    """An order says what makes a clip, and how long it is."""
    order = Order.of({**ORDER, **given})
    assert (order.clip_on, order.before, order.after, order.explain) == wanted


@pytest.mark.parametrize(
    "given",
    [
        {"clip_on": "often"},
        {"clip_on": {"filter": ""}},
        {"clip_on": {"filter": "icmp", "more": 1}},
        {"clip_on": {"filter": "x" * (FILTER_MAX + 1)}},
        {"clip_on": ["crash"]},
        {"before": CLIP_MAX + 1},
        {"after": -1},
        {"after": True},
        {"explain": 1},
    ],
)
def test_a_bad_order(given: dict[str, Any]) -> None:
    """A value of an order that is not valid is refused."""
    with pytest.raises(BadRequest):
        Order.of({**ORDER, **given})


def test_what_a_clip_is_asked_for_with() -> None:
    """Without a body, a clip has the defaults; a reason of several lines is refused."""
    assert Cut.of(None) == Cut(120, 30, "by command")
    assert Cut.of({"before": 1, "after": 2, "reason": "slow"}) == Cut(1, 2, "slow")
    for body in ([], {"reason": "a\nb"}, {"reason": 1}, {"before": "1"}):
        with pytest.raises(BadRequest):
            Cut.of(body)


def test_the_ring_holds_what_a_clip_needs() -> None:
    """Segments that a clip needs stay, beyond both limits of the ring; then they go."""
    segments = [Stored(1, number, number * 10**6, (number + 1) * 10**6, 100, 10, 1) for number in range(9)]
    ring = Ring(2, 250)
    gone = [
        one.number for now, segment in enumerate(segments[:6]) for one in ring.add(segment, now, 2_500_000)
    ]
    assert gone == [0, 1]
    assert ring.expired(100, 2_500_000) == []
    assert [one.number for one in ring.add(segments[6], 6)] == [2, 3, 4]


def test_a_second_filter_is_joined() -> None:
    """The second capture has both filters and short packets, whatever limits the first one has."""
    request = Request(targets=("web-0",), filter="tcp or udp", snaplen=1500, max_bytes=10, interfaces=("lo",))
    joined = trigger_request(request, "port 53")
    assert joined.filter == "(tcp or udp) and (port 53)" and joined.interfaces == ("lo",)
    assert (joined.snaplen, joined.max_bytes) == (TRIGGER_SNAPLEN, None)
    assert trigger_request(Request(targets=("web-0",)), "port 53").filter == "port 53"


@pytest.mark.parametrize("text", ["", "udp) or (tcp", "(udp", "udp)", "x" * FILTER_MAX])
def test_a_filter_that_cannot_be_joined(text: str) -> None:
    """A filter that would leave its parentheses is refused, and one that is too long."""
    with pytest.raises(BadRequest):
        trigger_request(Request(targets=("web-0",), filter="icmp"), text)


def test_a_trigger_fires_once_in_an_interval(
    reactor: Clock, network: Network, make: Make, sink: Sink
) -> None:
    """Packets make no clip before the recording has begun, one when it has, and then one in an interval."""
    fired: list[float] = []
    trigger = Trigger(reactor, lambda: fired.append(reactor.seconds()), lambda _: None)
    capture = make("web-0")
    for name in ("source", "packets"):
        setattr(sink, name, getattr(trigger, name))
    trigger._capture = capture
    agent = network["web-0"]
    agent.start()
    assert trigger.opened.called
    agent.deliver(record(now_us()))
    assert fired == []
    trigger.arm()
    agent.deliver(record(now_us() - 10**7))  # from before
    assert fired == []
    agent.deliver(record(now_us() + 1000) * 3)
    assert len(fired) == 1 and capture.paused
    reactor.advance(CLIP_INTERVAL)
    assert not capture.paused
    agent.deliver(record(now_us() - 10**6))  # waited while the capture was paused
    assert len(fired) == 1
    agent.deliver(record(now_us() + 1000))
    assert len(fired) == 2
    trigger.close()
    assert capture.finished.called


def test_a_trigger_that_does_not_open(reactor: Clock, network: Network, make: Make, sink: Sink) -> None:
    """The agent's refusal of the second filter is the answer."""
    trigger = Trigger(reactor, lambda: None, lambda _: None)
    errors: list[RequestError] = []
    trigger.opened.addErrback(lambda failure: errors.append(failure.value))
    make("web-0")
    setattr(sink, "error", trigger.error)  # noqa: B010
    network["web-0"].greet()
    network["web-0"].refuse("bad_filter", "syntax error")
    assert [(error.code, error.message) for error in errors] == [("bad_filter", "syntax error")]


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        (NoticeType.INSTANCE_UNAVAILABLE, True),
        (NoticeType.CONNECTION_ERROR, True),
        (NoticeType.CAPTURE_STOPPED, False),
        (NoticeType.LIMIT_REACHED, False),
    ],
)
def test_what_counts_as_lost(kind: NoticeType, lost: bool) -> None:
    """Notices of an instance or an interface that disappeared are told from others."""
    assert lost_instance(Notice(kind, "x", "web-0")) is lost


def test_the_key_of_a_hook() -> None:
    """Only the hash is kept; another key, no key, and no hook do not fit."""
    key = new_key()
    assert hashed(key) == hashlib.sha256(key.encode()).hexdigest() != hashed(new_key())
    assert fits(key, hashed(key))
    assert not any([fits(key + "x", hashed(key)), fits("", hashed(key)), fits(key, None), fits("", None)])


def alert(name: Any, status: str = "firing") -> dict[str, Any]:
    return {"status": status, "labels": {"alertname": name}}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"status": "firing", "alerts": [alert("Slow"), alert("Slow"), alert("Down")]}, "alert Slow, Down"),
        ({"status": "firing", "alerts": [alert("Old", "resolved"), alert("New")]}, "alert New"),
        ({"status": "firing", "alerts": [alert(str(i)) for i in range(9)]}, "alert 0, 1, 2, 3, 4, …"),
        ({"status": "firing", "commonLabels": {"alertname": "Common"}}, "alert Common"),
        ({"status": "resolved", "alerts": [alert("Slow", "resolved")]}, None),
        ({"status": "firing", "alerts": [None, {"labels": []}, alert(7)], "commonLabels": 1}, "alert"),
        ({"alerts": "x"}, "alert"),
        (None, "alert"),
        ([1], "alert"),
    ],
)
def test_the_reason_of_an_alert(body: Any, reason: Optional[str]) -> None:
    """Alertmanager's body names the alerts that fire; other bodies name none; a resolved one makes no clip."""
    assert reason_of(body) == reason


def test_findings_are_bounded() -> None:
    """The worst findings are stored, as many as there is room for."""
    findings = [{"kind": "x" * 1000, "number": number} for number in range(1000)]
    kept = bounded(findings)
    assert kept == findings[: len(kept)]
    assert CLIP_FINDINGS_MAX - 2000 < len(json.dumps(kept)) < CLIP_FINDINGS_MAX + 1000
