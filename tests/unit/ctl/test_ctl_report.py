"""What the user is told: the report's numbers and words, harmless text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pcapd.ctl.display import report
from pcapd.ctl.display.text import escape, quantity
from pcapd.ctl.options import CaptureOptions, CaptureTarget
from pcapd.ctl.sinks.opening import Sinks
from pcapd.ctl.stream.session import CaptureSession
from pcapd.merge import Matcher
from pcapd.merge.matching import PacketIds
from pcapd.merge.muxer import Account, Muxer
from pcapd.savefile.form import Form
from pcapd.wire import Request, Source, Stats

SOURCE = Source(
    "web-0", "eth0", 1, 262144, "udp", agent="agent/0", agent_address="192.0.2.7", clock_offset_us=1500
)


def account(source: Source = SOURCE, **facts: Any) -> Account:
    made = Account(source, 0, 5)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def test_every_place_where_packets_can_be_lost_has_its_number() -> None:
    """The report has the number of packets written, received, and lost at each of five places."""
    stats = Stats(20, 3, 2, 17, 9, final=True)
    line = report.source_line(account(stats=stats, received=16, written=12, unwritten=4))
    assert line == (
        "web-0:eth0: 12 written, 20 received by the filter, 3 dropped by the kernel, "
        "2 by the interface, 0 by the agent, 1 by the api, 4 here"
    )


def test_what_nobody_knows_is_called_unknown() -> None:
    """An agent that was lost never said its last word."""
    stats = Stats(20, 0, 0, 17, 9, final=True, exact=False)
    line = report.source_line(account(stats=stats, received=17, written=17))
    assert "unknown by the agent, unknown by the api, 0 here, more may be missing" in line


def test_a_source_that_lost_nothing_has_no_zeros() -> None:
    """The report lists only losses that are not zero, unless everything is asked for."""
    stats = Stats(12, 0, 0, 12, 9, final=True)
    assert report.brief_line(account(stats=stats, received=12, written=12)) == "web-0:eth0: 12 packets"
    stats = Stats(20, 3, 0, 17, 9, final=True)
    line = report.brief_line(account(stats=stats, received=16, written=12, unwritten=4))
    assert line == "web-0:eth0: 12 packets, 3 dropped by the kernel, 1 lost by the api, 4 lost here"


def test_the_report_is_short(tmp_path: Path) -> None:
    """The report lists instances by number, whether packets were lost, and a hint when none came."""
    muxer = Muxer(Form.PCAPNG, 262144)
    for number in (10, 2, 1):
        muxer.source(number, Source(f"web/{number}", "eth0", 1, 262144, ""), 5)
        muxer.stats(number, Stats(0, 0, 0, 0, 9, final=True))
    options = CaptureOptions("", Form.PCAPNG, "port 1")
    capture = CaptureSession(options.request(CaptureTarget(("web",))), muxer, None, 0.0)
    capture.reason = "10 packets"
    lines = report.as_text(capture, Sinks(options, muxer.closing), 1.0, options)
    assert lines[:5] == [
        "web/1:eth0: 0 packets",
        "web/2:eth0: 0 packets",
        "web/10:eth0: 0 packets",
        "0 packets in 1.0 s, not written to a file; nothing was lost",
        "stopped: 10 packets",
    ]
    assert all(
        words in lines[5] for words in ("no packets were captured", "the filter", "--device lo", "-i any")
    )


def test_late_packets_are_told() -> None:
    """Late packets are reported."""
    assert "2 late (out of order)" in report.source_line(account(late=2))


def test_a_source_that_opens_is_described() -> None:
    """An opened source is described in one line with link type, agent, address, clock and filter."""
    assert report.opened_line(SOURCE) == (
        "web-0:eth0: Ethernet, agent agent/0 at 192.0.2.7, clock +1.5 ms, filter udp"
    )


def test_a_clock_that_is_off_is_warned_of(tmp_path: Path) -> None:
    """A clock that is off gives a warning."""
    muxer = Muxer(Form.PCAPNG, 262144)
    source = Source("web-0", "eth0", 1, 262144, "", agent="a", clock_offset_us=-2_000_000)
    muxer.source(1, source, 5)
    capture = CaptureSession(Request(("web-0",)), muxer, None, 0.0)
    options = CaptureOptions(str(tmp_path / "x"), Form.PCAPNG)
    sinks = Sinks(options, muxer.closing)
    lines = report.as_text(capture, sinks, 1.0, options)
    assert any("the clock is -2.00 s off" in line for line in lines)


def test_a_clock_that_nobody_compared(tmp_path: Path) -> None:
    """A clock that was not compared gives no warning."""
    muxer = Muxer(Form.PCAPNG, 262144)
    muxer.source(1, Source("web-0", "eth0", 1, 262144, ""), 5)
    capture = CaptureSession(Request(("web-0",)), muxer, None, 0.0)
    options = CaptureOptions(str(tmp_path / "x"), Form.PCAPNG)
    sinks = Sinks(options, muxer.closing)
    assert not any("clock" in line for line in report.as_text(capture, sinks, 1.0, options))


def test_packets_that_could_not_be_matched_are_told(tmp_path: Path) -> None:
    """A file with numbers must say where they may be wrong; one with duplicates left out, how many."""
    ids = PacketIds(dedupe=True)
    ids.matcher = Matcher(1, 10, 1)
    for number in range(8):
        ids.matcher.see(0, number, number)
    muxer = Muxer(Form.PCAPNG, 262144, packet_ids=ids)
    muxer.source(1, SOURCE, 5)
    capture = CaptureSession(Request(("web-0",)), muxer, None, 0.0)
    options = CaptureOptions(str(tmp_path / "x"), Form.PCAPNG)
    sinks = Sinks(options, muxer.closing)
    assert any(
        "7 packets exceeded the matching memory" in line
        for line in report.as_text(capture, sinks, 1.0, options)
    )
    assert report.as_dict(capture, sinks, 1.0)["packets_forgotten"] == 7
    assert "3 duplicates left out" in report.source_line(account(duplicates=3))


@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "a\nb", "\x9b1m", "\u202eevil", "a\x00b", "\x7f"])
def test_text_from_elsewhere_is_harmless(text: str) -> None:
    """Text from the network cannot control a terminal, forge a line or reverse the text."""
    assert escape(text).isprintable()


def test_text_that_is_harmless_stays() -> None:
    """Printable text of any language is unchanged."""
    assert escape("Jürgen's app – 東京") == "Jürgen's app – 東京"


@pytest.mark.parametrize(("size", "words"), [(0, "0"), (999, "999"), (295_000, "295 kB"), (12_300_000, "12")])
def test_sizes(size: int, words: str) -> None:
    """Sizes are printed with the units of disks."""
    assert quantity(size).startswith(words)


def test_the_plan() -> None:
    """The plan has targets, filter and limits in three lines, however many targets there are."""
    options = CaptureOptions(
        "x\x1b.pcapng", Form.PCAPNG, "udp", ("eth0", "lo"), 128, count=9, duration=90.0, max_bytes=10**8
    )
    assert report.plan(options, CaptureTarget(tuple(f"web-{number}" for number in range(200)))) == [
        "targets: "
        + ", ".join(f"web-{number}" for number in range(12))
        + " and 188 more; interfaces: eth0, lo",
        "filter: udp, without the capture's own connections; 128 bytes of each packet",
        "limits: 90 s, 9 packets, 100 MB; writing to x\\x1b.pcapng",
    ]
    assert report.plan(CaptureOptions("-", Form.PCAPNG), CaptureTarget(("web-0",))) == [
        "targets: web-0",
        "filter: none, without the capture's own connections; whole packets",
        "limits: none; writing to standard output",
    ]
