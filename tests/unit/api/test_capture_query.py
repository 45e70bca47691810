"""The query of ``GET /capture``: what it means, and every mistake in it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pcapd.api.http.download import parse_query
from pcapd.errors import BadRequest
from pcapd.limits import (
    SNAPLEN_MAX,
)
from tests.kit.unit.front import Front


def query(**arguments: Any) -> dict[bytes, list[bytes]]:
    """Arguments as Twisted hands them over."""
    return {
        name.encode(): [str(value).encode() for value in (values if isinstance(values, list) else [values])]
        for name, values in arguments.items()
    }


def test_every_argument_is_understood() -> None:
    """Units, repeated names and flags mean what the documentation says."""
    request, count, ordered = parse_query(
        query(
            target=["web-0", "web-1"],
            device=["eth0", "lo"],
            filter="udp",
            snaplen=96,
            duration="5m",
            max_bytes="1MB",
            count=7,
            order="off",
        )
    )
    assert (request.targets, request.interfaces) == (("web-0", "web-1"), ("eth0", "lo"))
    assert (request.filter, request.snaplen, request.duration) == ("udp", 96, 300.0)
    assert (request.max_bytes, count, ordered) == (1_000_000, 7, False)


def test_without_arguments_there_are_defaults() -> None:
    """Without arguments a request is for whole packets, in order, without an end of its own."""
    request, count, ordered = parse_query(query(target="web-0"))
    assert (request.snaplen, request.duration, request.max_bytes, ordered) == (SNAPLEN_MAX, None, None, True)
    assert count > 10**18 and request.interfaces == ()


def test_an_empty_device_is_none() -> None:
    """The 2022 clients send ``device=`` for the default."""
    assert parse_query(query(target="web-0", device=["", "lo"]))[0].interfaces == ("lo",)


@pytest.mark.parametrize(
    ("words", "means"), [(("1", "true", "YES", "on"), True), (("0", "False", "no", "off"), False)]
)
def test_flags(words: tuple[str, ...], means: bool) -> None:
    """Each flag has four spellings, in upper and lower case."""
    for word in words:
        wanted, _, ordered = parse_query(query(target="web-0", headers_only=word, order=word))
        assert (wanted.headers_only, ordered) == (means, means)


def test_plain_numbers_are_seconds() -> None:
    """A duration without a unit, as of 2022's clients, is in seconds."""
    assert parse_query(query(target="web-0", duration="30"))[0].duration == 30.0


def test_all_problems_are_named_at_once() -> None:
    """All problems of a query are named at once."""
    with pytest.raises(BadRequest) as refused:
        parse_query(
            query(
                target="web-0",
                snaplen="x",
                count="many",
                order="maybe",
                duration="soon",
                max_bytes="big",
                colour="red",
                filter=["udp", "tcp"],
            )
        )
    for name in (
        "snaplen",
        "count",
        "order",
        "duration",
        "max_bytes",
        "colour is not a known argument",
        "filter is given twice",
    ):
        assert name in refused.value.message


@pytest.mark.parametrize("wanted", [{"target": "web-0"}, {"appid": "a-guid"}, {"deployment": "cf"}])
def test_one_thing_to_capture_is_enough(wanted: dict[str, str]) -> None:
    """A query for one kind of target is complete."""
    request, _, _ = parse_query(query(**wanted))
    assert [request.targets != (), request.app is not None, request.deployment is not None].count(True) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "nothing to capture is named"),
        ({"filter": "udp"}, "nothing to capture is named"),
        ({"target": "web-0", "index": 1}, "index and type need an appid"),
        ({"target": "web-0", "type": "worker"}, "index and type need an appid"),
        ({"target": "web-0", "group": "router"}, "group and instance need a deployment"),
        ({"target": "web-0", "instance": "0"}, "group and instance need a deployment"),
        ({"appid": "a-guid", "index": "-1"}, "is not the number of an instance"),
        ({"appid": "a-guid", "index": "1.0"}, "is not the number of an instance"),
        ({"appid": "a-guid", "index": "\u0661"}, "is not the number of an instance"),
        ({"appid": "a-guid", "index": "9" * 5000}, "is not the number of an instance"),
    ],
)
def test_queries_that_name_too_little_or_nonsense(wrong: dict[str, Any], words: str) -> None:
    """Missing arguments and arguments of another kind of target are named."""
    with pytest.raises(BadRequest, match=words):
        parse_query(query(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": -1},
        {"snaplen": 0},
        {"snaplen": SNAPLEN_MAX + 1},
        {"duration": "0"},
        {"device": ["eth0", "eth0"]},
        {"filter": "x" * 5001},
        {"target": [""]},
        {"target": []},
        {"duration": "\u00b2"},
        {"duration": "9" * 400},
        {"snaplen": "9" * 5000},
    ],
)
def test_values_that_make_no_sense(wrong: dict[str, Any]) -> None:
    """Values out of range are bad requests, and never another error."""
    with pytest.raises(BadRequest):
        parse_query(query(**{"target": "web-0", **wrong}))


@pytest.mark.parametrize("value", ["\u00b2", "9" * 400])
def test_hostile_numbers_are_bad_requests_over_http(front: Front, value: str) -> None:
    """Numbers that Python or a float cannot represent are answered with 400."""
    assert front.ask(f"/capture?target=web-0&duration={quote(value)}").status == 400
