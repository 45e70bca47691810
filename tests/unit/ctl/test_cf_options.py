"""Instances on the command line, and what a capture of an app is called."""

from __future__ import annotations

import pytest

from pcapd.ctl.display.report import opened_line
from pcapd.ctl.options import CaptureOptions, CaptureTarget, UsageProblem, parse_instances, parse_places
from pcapd.savefile.form import Form
from pcapd.wire import App, Source


@pytest.mark.parametrize(
    ("given", "instances"),
    [
        ((), ()),
        (("all",), ()),
        (("all", "all"), ()),
        (("0",), (0,)),
        (("0,2",), (0, 2)),
        (("2", "0, 1"), (2, 0, 1)),
        (("1,1", "1"), (1,)),
        (("0-2",), (0, 1, 2)),
        (("1,3-4", "4-5"), (1, 3, 4, 5)),
    ],
)
def test_instances(given: tuple[str, ...], instances: tuple[int, ...]) -> None:
    """Instances are chosen by repeated options, commas or `all`; none means all."""
    assert parse_instances(given) == instances


@pytest.mark.parametrize(
    "given", ["", "0,", "-1", "web", "2-0", "0-", "0-2-4", "0-9999999", "1.0", "all,0", "²", "٣", "9" * 100]
)
def test_no_instances(given: str) -> None:
    """Invalid instances are refused."""
    with pytest.raises(UsageProblem):
        parse_instances((given,))


def test_request_for_an_app() -> None:
    """START names the app and nothing else."""
    app = App("guid", "web", (0, 2))
    request = CaptureOptions("x", Form.PCAPNG).request(CaptureTarget(app=app, name="myapp", follow=True))
    assert (request.app, request.follow, request.targets) == (app, True, ())


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (CaptureTarget(("a", "b")), "targets: a, b"),
        (CaptureTarget(app=App("g"), name="myapp"), "app: myapp, web, all instances"),
        (CaptureTarget(app=App("g", "w", (1,)), name="myapp"), "app: myapp, w, instance 1"),
        (
            CaptureTarget(app=App("g", "w", (0, 2)), name="m", follow=True),
            "app: m, w, instances 0, 2, followed",
        ),
    ],
)
def test_words(wanted: CaptureTarget, words: str) -> None:
    """The file's comment describes what is captured."""
    assert wanted.describe() == words


def opened(**changes: object) -> str:
    """The line about a source that was opened."""
    facts = {"instance": "myapp/0", "interface": "eth0", "link_type": 1, "snaplen": 64, "filter": "tcp"}
    return opened_line(Source(**{**facts, **changes}))  # type: ignore[arg-type]


def test_opened_line() -> None:
    """The line for an opened source has link type, agent, clock and filter."""
    line = opened(agent="diego-cell/1", agent_address="10.0.0.5", clock_offset_us=1234)
    assert line == "myapp/0:eth0: Ethernet, agent diego-cell/1 at 10.0.0.5, clock +1.2 ms, filter tcp"


def test_opened_line_of_strangers() -> None:
    """Missing values are left out of the line, and control characters of the api are escaped."""
    assert opened(filter="") == "myapp/0:eth0: Ethernet, over ssh, filter none"
    line = opened(agent="\x1b[2J", agent_address="\r", filter="a\nb", link_type=147)
    assert line == "myapp/0:eth0: LINKTYPE 147, agent \\x1b[2J at \\r, filter a\\nb"


@pytest.mark.parametrize(
    ("places", "groups", "instances", "found"),
    [
        (["router"], [], [], (("router",), ())),
        (["router", "nats"], [], [], (("router", "nats"), ())),
        (["router/0", "router/1"], [], [], (("router",), ("router/0", "router/1"))),
        ([], ["router"], ["0"], (("router",), ("0",))),
    ],
)
def test_places(places: list[str], groups: list[str], instances: list[str], found: object) -> None:
    """BOSH instances are chosen by words, as in the BOSH CLI, or with options."""
    assert parse_places(places, groups, instances) == found


@pytest.mark.parametrize(
    ("places", "groups", "words"),
    [
        ([], [], "no instance group"),
        (["router/0", "nats"], [], "not both"),
        (["router"], ["nats"], "either"),
    ],
)
def test_no_places(places: list[str], groups: list[str], words: str) -> None:
    """An invalid place is wrong usage."""
    with pytest.raises(UsageProblem, match=words):
        parse_places(places, groups, [])
