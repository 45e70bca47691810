"""``pcapctl recording fetch``: every packet once, however often the answer is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import pytest

from demo.configurations import LOCAL, free_port
from pcapd.ctl.options import Access
from pcapd.ctl.recordings.following import Blocks, NotPcapng, Overlap, Seen
from pcapd.ctl.recordings.saving import FetchOptions, fetch
from pcapd.ctl.stream.connection import ApiUnreachable
from pcapd.errors import Draining, TargetNotFound
from pcapd.limits import FETCH_ATTEMPTS
from pcapd.savefile.blocks import is_packet, own_blocks, own_time
from tests.kit.doubles.recordings import HEADERS, ID, RecordingApi, packet

#: Microseconds since the epoch.
BASE = 1_790_000_000_000_000


def times(path: Path) -> List[int]:
    """The times of the packets of a file of whole blocks, relative to `BASE`."""
    data = path.read_bytes()
    return [own_time(data, begin) - BASE for kind, begin, _ in own_blocks(data) if is_packet(kind)]


class Desk:
    """Fetches from an api that is played, without pauses."""

    def __init__(self, path: Path) -> None:
        self.path = path / "x.pcapng"
        self.api = RecordingApi()
        self.api.segments = {1: [BASE + us for us in (1, 2, 3)], 2: [BASE + us for us in (4, 4, 5)]}
        self.tokens = 0
        self.pauses: List[float] = []
        #: Called at each pause.
        self.meanwhile: Any = lambda: None

    def access(self) -> Access:
        self.tokens += 1
        return Access(self.api.url, f"token-{self.tokens}")

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.meanwhile()

    def fetch(self, **options: Any) -> int:
        given = FetchOptions(output=str(self.path), json=True, **options)
        with self.api:
            return fetch(self.access, ID, given, self.pause)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("size", range(0, 900, 23))
def test_a_cut_answer_goes_on(desk: Desk, size: int) -> None:
    """After a cut at any byte the rest is asked for, each time with a token of its own."""
    desk.api.cuts = [size, 200, 201]
    assert desk.fetch() == 0
    assert desk.path.read_bytes() == desk.api.file()
    assert desk.path.stat().st_mode & 0o777 == 0o600
    tokens = [one.headers["authorization"] for one in desk.api.asked]
    assert len(set(tokens)) == len(tokens)


def test_ranges_begin_with_a_block(desk: Desk) -> None:
    """The rest begins behind the last whole block, and only if it belongs to the same file."""
    desk.api.cuts = [len(HEADERS) + len(packet(0)) + 10]
    assert desk.fetch() == 0
    headers = desk.api.captures()[1].headers
    assert headers["range"] == f"bytes={len(HEADERS) + len(packet(0))}-"
    assert headers["if-range"] == '"1-0"'


def test_passing_failures(desk: Desk) -> None:
    """An api that is restarted, and a token that is refused, are asked again; pauses become longer."""
    desk.api.cuts = [len(HEADERS) + 2 * len(packet(0)), None]
    desk.api.statuses = [200, 503, 401, 503]
    assert desk.fetch() == 0
    assert times(desk.path) == [1, 2, 3, 4, 4, 5]
    assert desk.pauses == sorted(desk.pauses) and len(desk.pauses) == 4


def test_giving_up(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """An api that stays away leaves a valid file, and the status of a failure."""
    desk.api.cuts = [len(HEADERS) + len(packet(0)) + 3]
    desk.api.statuses = [200] + [503] * 100
    assert desk.fetch() == 1
    assert times(desk.path) == [1] and len(desk.pauses) == FETCH_ATTEMPTS - 1
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["event"] == "end" and end["error"] == "no"


def test_nothing_came(desk: Desk) -> None:
    """A first failure is reported at once, and makes no file."""
    desk.api.statuses = [503]
    with pytest.raises(Draining):
        desk.fetch()
    assert not desk.path.exists() and not desk.pauses
    with pytest.raises(ApiUnreachable):
        fetch(lambda: Access(f"http://{LOCAL}:{free_port()}", None), ID, FetchOptions(json=True))


def test_the_ring_moved(desk: Desk) -> None:
    """When the beginning is deleted meanwhile, the rest follows in a section of its own: nothing twice."""
    desk.api.cuts = [len(HEADERS) + 4 * len(packet(0)) + 7]
    desk.meanwhile = lambda: desk.api.drop(1)
    assert desk.fetch() == 0
    assert times(desk.path) == [1, 2, 3, 4, 4, 5]
    assert desk.path.read_bytes().count(HEADERS) == 2


def test_the_ring_overtook(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """What was deleted before it was fetched is named, and the status says that packets are missing."""
    desk.api.segments[3] = [BASE + 9]
    desk.api.cuts = [len(HEADERS) + 2 * len(packet(0))]
    desk.meanwhile = lambda: desk.api.drop(1, 2)
    assert desk.fetch() == 3
    assert times(desk.path) == [1, 2, 9]
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["missing"] == [[BASE + 2, BASE + 9]]


@pytest.mark.parametrize(("part", "status"), [({}, 0), ({"begin": "2000-01-01T00:00:00Z"}, 3)])
def test_the_ring_is_close_behind(desk: Desk, part: Any, status: int) -> None:
    """If exactly what was fetched is deleted, nothing is missing; where this cannot be known, it is said."""
    desk.api.cuts = [len(HEADERS) + 3 * len(packet(0))]
    desk.meanwhile = lambda: desk.api.drop(1)
    assert desk.fetch(**part) == status
    assert times(desk.path) == [1, 2, 3, 4, 4, 5]


def test_all_of_the_rest_was_deleted(desk: Desk) -> None:
    """When nothing is left behind the last packet, the file ends there, and the rest is missing."""
    desk.api.cuts = [len(desk.api.file()) - 1]
    desk.meanwhile = lambda: desk.api.drop(1, 2)
    assert desk.fetch() == 3
    assert times(desk.path) == [1, 2, 3, 4, 4]


def test_tail(desk: Desk) -> None:
    """--tail goes on until the recording has ended, and asks for packets only if there are more."""
    whole = dict(desk.api.segments)
    desk.api.segments = {}
    desk.api.values["state"] = "recording"

    def grow() -> None:
        if len(desk.pauses) % 3 == 0 and whole:
            number = min(whole)
            desk.api.segments[number] = whole.pop(number)
        elif not whole:
            desk.api.values["state"] = "stopped"

    desk.meanwhile = grow
    assert desk.fetch(tail=True) == 0
    assert times(desk.path) == [1, 2, 3, 4, 4, 5]
    assert len(desk.api.captures()) <= 3


def test_no_packets_in_this_time(desk: Desk) -> None:
    """Nothing in a time is an error, and makes no file."""
    with pytest.raises(TargetNotFound, match="no packets"):
        desk.fetch(begin="2100-01-01T00:00:00Z")
    assert not desk.path.exists()


def test_lost_packets(desk: Desk) -> None:
    """A recording that lost packets, or failed, is not called complete."""
    desk.api.values["dropped"] = 2
    assert desk.fetch() == 3


# --- without a server --------------------------------------------------------------


@pytest.mark.parametrize("data", [b"<html>", HEADERS + bytes(12), HEADERS + b"\xff" * 12])
def test_not_pcapng(data: bytes) -> None:
    """What a captive portal sends is not taken for packets."""
    blocks = Blocks()
    with pytest.raises(NotPcapng):
        for index in range(len(data)):
            blocks.add(data[index : index + 1])


def test_packets_of_the_same_time() -> None:
    """Packets with the time of the last one are told apart by their bytes, and by their number."""
    a, b = packet(5, b"a" * 20), packet(5, b"b" * 20)
    seen = Seen()
    seen.add(HEADERS + packet(4) + a + a)
    overlap = Overlap(seen)
    assert overlap.without(HEADERS + a + a + b + a) == HEADERS + b + a
    assert overlap.without(packet(6)) == packet(6) and overlap.over and overlap.gap is None
