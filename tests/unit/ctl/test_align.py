"""``pcapctl align``: clocks that differ, by much or little and with drift, are one clock afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from pcapd.ctl.display.align import align
from pcapd.ctl.options import UsageProblem
from pcapd.errors import PcapdError
from pcapd.savefile import blocks
from pcapd.savefile.reader import read_file
from tests.kit.packets import ethernet, ipv4, tcp

START_US = 1_700_000_000_000_000
WAY_US = 80
SEGMENTS = 200


def write(path: Path, offset_us: int, ppm: float) -> None:
    """A connection of a client at web-0, seen there and at web-1, whose clock is ahead and drifts."""
    packets: List[Tuple[int, int, bytes]] = []
    for number in range(SEGMENTS):
        sent = START_US + 25_000 * number
        there = ethernet(ipv4(tcp(b"x", seq=1 + number), protocol=6))
        answer = ipv4(tcp(b"y", seq=1 + number, source=80, destination=40000), protocol=6)
        back = ethernet(answer[:12] + answer[16:20] + answer[12:16] + answer[20:])
        arrives, answers = sent + WAY_US, sent + 500
        for us, place, data in (
            (sent, 0, there), (arrives, 1, there), (answers, 1, back), (answers + WAY_US, 0, back)
        ):  # fmt: skip
            own = us + offset_us + round((us - START_US) * ppm / 1e6) if place else us
            packets.append((own, place, data))
    data = blocks.section_header("test")
    data += b"".join(blocks.interface_description(f"web-{place}:eth0", 1, 0) for place in range(2))
    data += b"".join(
        blocks.enhanced_packet(place, us, len(frame), frame) for us, place, frame in sorted(packets)
    )
    path.write_bytes(data)


@pytest.mark.parametrize(("offset_us", "ppm"), [(200, 0), (-700_000, 50), (5_000_000, -50), (0, 0)])
def test_no_packet_arrives_before_it_was_sent(tmp_path: Path, offset_us: int, ppm: float) -> None:
    """After alignment the difference between the clocks is far below 100 microseconds."""
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    write(source, offset_us, ppm)
    first, second = align(str(source), str(target), force=False)
    assert first == "web-0:eth0: unchanged; the others follow its clock"
    assert second.startswith("web-1:eth0: moved by ") and second.endswith("from its packets")
    seen: Dict[bytes, Dict[str, int]] = {}
    times = []
    with target.open("rb") as file:
        for packet in read_file(file):
            times.append(packet.us)
            seen.setdefault(packet.data, {})[packet.interface.name] = packet.us
    assert times == sorted(times) and len(times) == 4 * SEGMENTS
    ways = [at["web-1:eth0"] - at["web-0:eth0"] for at in seen.values()]
    assert {abs(abs(way) - WAY_US) <= 10 for way in ways} == {True}


def test_what_is_not_overwritten(tmp_path: Path) -> None:
    """Neither an existing target nor the source file is overwritten."""
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    write(source, 200, 0)
    target.write_bytes(b"mine")
    with pytest.raises(UsageProblem, match="already exists"):
        align(str(source), str(target), force=False)
    with pytest.raises(UsageProblem, match="is the input file"):
        align(str(source), str(source), force=True)
    assert target.read_bytes() == b"mine"
    align(str(source), str(target), force=True)
    assert target.stat().st_size > source.stat().st_size and target.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [source, target]


@pytest.mark.parametrize(
    ("source", "target"), [("-", "out.pcapng"), ("in.pcapng", "-"), ("in.pcapng", "/dev/null")]
)
def test_names_that_are_no_regular_file(source: str, target: str) -> None:
    """Standard input, standard output and devices are refused before anything is read."""
    with pytest.raises(UsageProblem, match=r"needs files|not a regular file"):
        align(source, target, force=True)


def test_a_file_without_duplicates_is_refused(tmp_path: Path) -> None:
    """A capture with --dedupe has each packet once only, so it cannot show how far clocks are apart."""
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    described = (blocks.interface_description(f"a{number}", 1, 0, blocks.DEDUPED) for number in range(2))
    source.write_bytes(blocks.section_header("test") + b"".join(described))
    with pytest.raises(PcapdError, match="duplicates were left out"):
        align(str(source), str(target), force=False)
    assert not target.exists()


def test_one_interface_has_no_other_clock(tmp_path: Path) -> None:
    """A file of one interface is refused, and no file is made."""
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(blocks.section_header("test") + blocks.interface_description("a", 1, 0))
    with pytest.raises(PcapdError, match="only one interface"):
        align(str(source), str(target), force=False)
    assert not target.exists()
