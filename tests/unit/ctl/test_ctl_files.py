"""Several files: every one whole, no packet lost between them, nothing overwritten, a ring that counts."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.ctl.options import NOWHERE, CaptureOptions, UsageProblem
from pcapd.ctl.sinks import files as files_module
from pcapd.ctl.sinks import output as output_module
from pcapd.ctl.sinks.fileoptions import FileOptions, Rotation, part_name
from pcapd.ctl.sinks.files import check_files
from pcapd.ctl.sinks.opening import Sinks
from pcapd.ctl.sinks.output import OutputError
from pcapd.ctl.stream.session import CaptureSession
from pcapd.merge import split as split_module
from pcapd.merge.muxer import Kind, Muxer, Piece
from pcapd.merge.split import Split
from pcapd.savefile.form import Form
from pcapd.wire import Request, Source, Stats


def record(number: int, size: int) -> bytes:
    """A record that carries its number."""
    data = struct.pack("<I", number).ljust(size, b"x")
    return struct.pack("<4I", 1000 + number, 0, len(data), len(data)) + data


def source(instance: str, interface: str = "eth0") -> Source:
    return Source(instance, interface, 1, 262144, "udp", addresses=("192.0.2.7/24",))


def read(path: Path) -> tuple[List[int], List[int], int, int]:
    """Numbers of the packets, their interfaces, interfaces and statistics of a file; fails if it is not whole."""
    data = path.read_bytes()
    if path.suffix == ".pcap":
        assert data[:4] == struct.pack("<I", 0xA1B2C3D4)
        position, numbers = 24, []
        while position < len(data):
            (length,) = struct.unpack_from("<I", data, position + 8)
            numbers.append(struct.unpack_from("<I", data, position + 16)[0])
            position += 16 + length
        assert position == len(data)
        return numbers, [], 0, 0
    assert struct.unpack_from("<I", data)[0] == 0x0A0D0D0A, "no section header"
    position, interfaces, statistics = 0, 0, 0
    numbers, origins = [], []
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position)
        assert struct.unpack_from("<I", data, position + length - 4)[0] == length
        if kind == 1:
            interfaces += 1
        elif kind == 5:
            statistics += 1
            assert struct.unpack_from("<I", data, position + 8)[0] < interfaces
        elif kind == 6:
            origin, _, _, _, _, number = struct.unpack_from("<6I", data, position + 8)
            assert origin < interfaces, "a packet of an interface that the file does not know"
            numbers.append(number)
            origins.append(origin)
        position += length
    assert position == len(data)
    return numbers, origins, interfaces, statistics


def opened(name: object, form: Form, options: FileOptions, muxer: Any, *, force: bool = False) -> Sinks:
    """Files as a capture has them."""
    return Sinks(CaptureOptions(str(name), form, files=options, force=force), muxer.closing)


def write(sinks: Sinks, pieces: List[Piece], now: float, *, last: bool = False) -> None:
    """As the loop does."""
    for sink in sinks._all:
        sink.write(pieces, now, last=last)


def capture(
    directory: Path,
    form: Form,
    options: FileOptions,
    batches: List[List[int]],
    *,
    force: bool = False,
    times: Optional[List[float]] = None,
) -> Sinks:
    """Packets of the given sizes from two interfaces; the second one opens after the first batch."""
    kind: Any = Split if options.split else Muxer
    muxer = kind(form, 262144, ordered=False)
    suffix = ".pcap" if form is Form.PCAP else ".pcapng"
    files = opened(directory / f"x{suffix}", form, options, muxer, force=force)
    serial = 0
    muxer.source(1, source("a/0"), 5)
    for index, sizes in enumerate(batches):
        now = times[index] if times else float(index)
        number = 1 + index % 2 if index else 1
        if index == 1:
            muxer.source(2, source("b/0" if options.split else "a/0", "lo"), 6)
        if sizes:
            data = b"".join(record(serial + offset, size) for offset, size in enumerate(sizes))
            serial += len(sizes)
            muxer.packets(number, data, now)
        write(files, muxer.take_pieces(now), now)
    write(files, muxer.finish_pieces(10), len(batches), last=True)
    files.close()
    return files


@given(
    form=st.sampled_from(Form),
    size=st.integers(1, 3000),
    batches=st.lists(st.lists(st.integers(4, 400), max_size=20), min_size=1, max_size=8),
)
def test_files_by_size_hold_every_packet_once(
    tmp_path_factory: pytest.TempPathFactory, form: Form, size: int, batches: List[List[int]]
) -> None:
    """Files by size hold every packet once, in order, and exceed the size only for a single larger packet."""
    directory = tmp_path_factory.mktemp("rotation")
    files = capture(directory, form, FileOptions(Rotation(size=size)), batches)
    numbers: List[int] = []
    assert files.inventory.size == sum(written.bytes for written in files.inventory.kept)
    for written in files.inventory.kept:
        path = Path(written.name)
        found, _, interfaces, statistics = read(path)
        assert len(found) == written.packets
        assert path.stat().st_size == written.bytes
        # The closing statistics come on top, with a remark where somebody never said its last word.
        assert written.bytes <= size + 224 * interfaces or len(found) <= 1
        assert statistics >= interfaces
        numbers += found
    assert numbers == list(range(sum(map(len, batches))))
    assert sorted(path.name for path in directory.iterdir()) == [
        Path(each.name).name for each in files.inventory.kept
    ]


def test_names_are_those_of_dumpcap(tmp_path: Path) -> None:
    """File names have number and time before the suffix, as dumpcap's."""
    files = capture(tmp_path, Form.PCAPNG, FileOptions(Rotation(size=1)), [[4], [4]])
    names = [Path(written.name) for written in files.inventory.kept]
    assert names[0].match("x_00001_????????T??????Z.pcapng") and names[1].match("x_00002_*Z.pcapng")


def test_files_by_time(tmp_path: Path) -> None:
    """A file ends when its time is over; the next one begins with a packet; none is empty."""
    options = FileOptions(Rotation(time=10.0))
    times = [0.0, 5.0, 12.0, 40.0, 41.0]
    files = capture(tmp_path, Form.PCAPNG, options, [[4], [4], [], [], [4]], times=times)
    assert [read(Path(written.name))[0] for written in files.inventory.kept] == [[0, 1], [2]]
    assert read(Path(files.inventory.kept[1].name))[2] == 2, "a later file knows all interfaces"


def test_a_time_without_packets_makes_one_file(tmp_path: Path) -> None:
    """A rotation time without packets makes one file with headers."""
    files = capture(tmp_path, Form.PCAPNG, FileOptions(Rotation(time=1.0)), [[], [], []])
    assert [read(Path(written.name))[0] for written in files.inventory.kept] == [[]]


def test_a_ring_says_what_it_deleted(tmp_path: Path) -> None:
    """The newest files stay; packets of the others are counted, and each is told."""
    files = capture(tmp_path, Form.PCAPNG, FileOptions(Rotation(size=1, files=2)), [[4] * 5, [4] * 2])
    assert [read(Path(written.name))[0] for written in files.inventory.kept] == [[5], [6]]
    assert (files.inventory.deleted_files, files.inventory.deleted_packets) == (
        5,
        5,
    ) and files.inventory.deleted_bytes > 0
    assert len(list(tmp_path.iterdir())) == 2
    assert files.inventory.size == sum(path.stat().st_size for path in tmp_path.iterdir())
    told = [(word, Path(written.name).name[2:7]) for word, written in files.inventory.news]
    assert [number for word, number in told if word == "deleted"] == [f"{n:05d}" for n in range(1, 6)]
    assert [number for word, number in told if word == "finished"] == [f"{n:05d}" for n in range(1, 8)]


def test_a_file_that_somebody_else_deleted(tmp_path: Path) -> None:
    """A ring's old file that is already deleted is no error."""
    muxer = Muxer(Form.PCAPNG, 262144, ordered=False)
    options = FileOptions(Rotation(size=1, files=1))
    files = opened(tmp_path / "x.pcapng", Form.PCAPNG, options, muxer, force=False)
    muxer.source(1, source("a/0"), 5)
    for number in range(3):
        muxer.packets(1, record(number, 4), 0.0)
        write(files, muxer.take_pieces(0.0), 0.0)
        for path in tmp_path.iterdir():
            path.unlink()
    files.close()
    assert files.inventory.deleted_files == 2


@pytest.mark.parametrize("form", Form)
def test_a_file_per_instance(tmp_path: Path, form: Form) -> None:
    """Each instance's file is named after it, with interfaces numbered from 0."""
    files = capture(tmp_path, form, FileOptions(split=True), [[4], [4], [4]])
    suffix = form.name.lower()
    assert {path.name for path in tmp_path.iterdir()} == {f"x_a_0.{suffix}", f"x_b_0.{suffix}"}
    first, second = (read(Path(written.name)) for written in files.inventory.kept)
    assert first[0] == [0, 2] and second[0] == [1]
    assert set(second[1]) <= {0}
    assert [written.instance for written in files.inventory.kept] == ["a/0", "b/0"]


def test_a_file_per_instance_by_size(tmp_path: Path) -> None:
    """A file per instance by size is a series, and a ring, per instance."""
    files = capture(
        tmp_path, Form.PCAPNG, FileOptions(Rotation(size=1, files=2), split=True), [[4] * 3, [4], [4]]
    )
    names = sorted(path.name[:11] for path in tmp_path.iterdir())
    assert names == ["x_a_0_00003", "x_a_0_00004", "x_b_0_00001"]
    assert files.inventory.deleted_packets == 2


def test_instances_whose_names_become_the_same(tmp_path: Path) -> None:
    """Instances whose file names would be equal have a file each, whatever a name looks like."""
    muxer = Split(Form.PCAPNG, 262144)
    files = opened(tmp_path / "x.pcapng", Form.PCAPNG, FileOptions(split=True), muxer, force=True)
    for number, name in enumerate(("a/0", "a_0", "A_0", "../../a", "é" * 200), 1):
        muxer.source(number, source(name), 5)
    write(files, muxer.take_pieces(0.0), 0.0)
    files.close()
    assert len(files.inventory.kept) == len(list(tmp_path.iterdir())) == 5
    assert all(Path(written.name).parent == tmp_path for written in files.inventory.kept)


def test_limits_count_over_all_instances() -> None:
    """--count and --max-bytes are of the capture."""
    muxer = Split(Form.PCAPNG, 262144, ordered=False, max_packets=3)
    for number in (1, 2):
        muxer.source(number, source(f"a/{number}"), 5)
        muxer.packets(number, record(0, 4) + record(1, 4), 0.0)
    assert muxer.full
    pieces = muxer.take_pieces(0.0)
    assert sum(piece.packets for piece in pieces) == 3
    assert sum(account.written for account in muxer.accounts.values()) == 3


def test_time_order_within_each_instance() -> None:
    """Each instance's file is in time order, and a source that ends holds up no other."""
    muxer = Split(Form.PCAPNG, 262144)
    muxer.source(1, source("a/0"), 5)
    muxer.source(2, source("a/0", "lo"), 5)
    muxer.source(3, source("b/0"), 5)
    muxer.packets(1, record(5, 4), 0.0)
    muxer.packets(2, record(3, 4), 0.0)
    assert muxer.waiting
    for number in (1, 2, 3):
        muxer.stats(number, Stats(1, 0, 0, 1, 2_000_000_000, final=True))
    data = {piece.stream: piece.data for piece in muxer.take_pieces(0.1) if piece.kind is Kind.PACKETS}
    assert list(data) == ["a/0"]
    assert data["a/0"].index(struct.pack("<I", 3) + b"") < data["a/0"].rindex(struct.pack("<I", 5) + b"")
    assert not muxer.waiting


def test_all_instances_together_are_held_back_as_one_file_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files together hold back as much as one would, however many instances there are."""
    monkeypatch.setattr(split_module, "HOLD_BACK_BYTES", 10_000)
    muxer = Split(Form.PCAPNG, 262144)
    for number in range(10):
        # The second interface says nothing, so that the first one's packets wait for it.
        muxer.source(number, source(f"a/{number}"), 5)
        muxer.source(100 + number, source(f"a/{number}", "lo"), 5)
    written = 0
    for turn in range(40):
        for number in range(10):
            muxer.packets(number, record(turn, 84), 0.0)
        for _ in range(10):
            written += sum(piece.packets for piece in muxer.take_pieces(0.0))
        assert sum(part.pending for part in muxer._parts.values()) <= 10_000
    written += sum(piece.packets for piece in muxer.finish_pieces(10))
    assert written == 400


def test_existing_files_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing file ends the capture without --force, and the packets left are counted."""
    monkeypatch.setattr(files_module.time, "strftime", lambda form, moment: "20260131T120000Z")
    second = tmp_path / "x_00002_20260131T120000Z.pcapng"
    second.write_text("mine")
    with pytest.raises(OutputError, match="--force") as refused:
        capture(tmp_path, Form.PCAPNG, FileOptions(Rotation(size=1)), [[4] * 3])
    assert refused.value.unwritten == 2
    assert second.read_text() == "mine"
    assert read(tmp_path / "x_00001_20260131T120000Z.pcapng")[0] == [0]
    (tmp_path / "x_00001_20260131T120000Z.pcapng").unlink()
    second.chmod(0o666)
    capture(tmp_path, Form.PCAPNG, FileOptions(Rotation(size=1)), [[4] * 3], force=True)
    assert read(second)[0] == [1] and second.stat().st_mode & 0o777 == 0o600


@given(room=st.integers(0, 6000), form=st.sampled_from(Form), split=st.booleans())
def test_a_full_disk_leaves_whole_files(
    tmp_path_factory: pytest.TempPathFactory, room: int, form: Form, split: bool
) -> None:
    """A full disk leaves every file whole, and the missing packets are counted."""
    directory = tmp_path_factory.mktemp("full")
    kind: Any = Split if split else Muxer
    muxer = kind(form, 262144, ordered=False)
    suffix = form.name.lower()
    options = FileOptions(Rotation(size=700), split=split)
    files = opened(directory / f"x.{suffix}", form, options, muxer, force=False)
    written = os.write

    def write_some(fd: int, data: Any) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        done = written(fd, bytes(data)[:room])
        room -= done
        return done

    packets = 0
    unwritten = 0
    pieces: List[Piece] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_module.os, "write", write_some)
        for number in (1, 2):
            muxer.source(number, source(f"a/{number}"), 5)
        try:
            for turn in range(4):
                for number in (1, 2):
                    muxer.packets(number, b"".join(record(n, 60) for n in range(5)), 0.0)
                pieces = muxer.take_pieces(0.0)
                packets += sum(piece.packets for piece in pieces)
                write(files, pieces, float(turn))
        except OutputError as error:
            unwritten = error.unwritten
        files.close()
    capture = CaptureSession(Request(("a",)), muxer, None, 0.0)
    capture.settle(form, files.inventory.written, pieces)
    found = 0
    for each in files.inventory.kept:
        numbers = read(Path(each.name))[0]
        assert len(numbers) == each.packets
        found += len(numbers)
    assert found + unwritten == packets
    assert capture.written == found and capture.lost_at_least == packets - found
    if split or form is Form.PCAPNG or not unwritten:
        # Each source knows its own.
        for number, account in muxer.accounts.items():
            assert account.drops.client == account.received - account.written
            if split:
                own = [each.packets for each in files.inventory.kept if each.instance == f"a/{number}"]
                assert account.written == sum(own)
    else:
        assert {account.drops.client for account in muxer.accounts.values()} == {None}


def test_a_failed_capture_without_packets_leaves_no_files(tmp_path: Path) -> None:
    """Files with headers only are removed again."""
    muxer = Split(Form.PCAPNG, 262144)
    files = opened(tmp_path / "x.pcapng", Form.PCAPNG, FileOptions(split=True), muxer, force=False)
    for number in (1, 2):
        muxer.source(number, source(f"a/{number}"), 5)
    write(files, muxer.take_pieces(0.0), 0.0)
    assert len(list(tmp_path.iterdir())) == 2
    files.close()
    files.discard()
    assert list(tmp_path.iterdir()) == [] and not files.inventory.opened


WRONG = {
    "ring alone": (FileOptions(Rotation(files=3)), "x.pcapng", "--rotate-size"),
    "rotation of stdout": (FileOptions(Rotation(size=1)), "-", "standard output"),
    "split of stdout": (FileOptions(split=True), "-", "standard output"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_that_do_not_go_together(case: str) -> None:
    """File options that exclude each other are refused before the start."""
    options, output, words = WRONG[case]
    with pytest.raises(UsageProblem, match=words):
        check_files(CaptureOptions(output, Form.PCAPNG, files=options))


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "is a directory"), ("no/where.pcapng", "does not exist"), ("pipe", "is not a regular file")],
)
def test_places_that_cannot_take_several_files(tmp_path: Path, name: str, words: str) -> None:
    """An output that cannot be several files is refused before the start."""
    os.mkfifo(tmp_path / "pipe")
    options = CaptureOptions(
        str(tmp_path / name), Form.PCAPNG, files=FileOptions(Rotation(size=1))
    )  # fmt: skip
    with pytest.raises(OutputError, match=words):
        check_files(options)


def test_a_directory_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be written is reported before the start."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        check_files(
            CaptureOptions(str(tmp_path / "x.pcapng"), Form.PCAPNG, files=FileOptions(Rotation(size=1)))
        )


def test_packets_for_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets for readers or a terminal alone go into no file."""
    monkeypatch.chdir(tmp_path)
    muxer = Muxer(Form.PCAPNG, 262144, ordered=False)
    files = opened(NOWHERE, Form.PCAPNG, FileOptions(serve=("127.0.0.1", 0)), muxer, force=True)
    muxer.source(1, source("a/0"), 5)
    muxer.packets(1, record(0, 4), 0.0)
    write(files, muxer.take_pieces(0.0), 0.0)
    files.close()
    assert not files.inventory.opened and files.inventory.written == {} and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pipe", "options", "live"),
    [
        (False, FileOptions(), False),
        (True, FileOptions(), True),
        (False, FileOptions(serve=("127.0.0.1", 0)), True),
        (False, FileOptions(print=True), True),
    ],
    ids=["file", "pipe", "connection", "lines"],
)
def test_packets_that_somebody_may_read_as_they_come(
    tmp_path: Path, pipe: bool, options: FileOptions, live: bool
) -> None:
    """Only a plain file may be written at intervals; a pipe, a connection and lines may have a reader."""
    path, reader = tmp_path / "x.pcapng", None
    if pipe:
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sinks = opened(str(path), Form.PCAPNG, options, Muxer(Form.PCAPNG, 262144))
    assert sinks.live == live
    sinks.close()
    if reader is not None:
        os.close(reader)


@pytest.mark.parametrize(
    ("options", "elsewhere"),
    [
        (FileOptions(), False),
        (FileOptions(packet_ids=True), False),
        (FileOptions(print=True), True),
        (FileOptions(serve=("127.0.0.1", 0)), True),
    ],
)
def test_where_packets_go_without_a_file(options: FileOptions, elsewhere: bool) -> None:
    """Without readers or a terminal line a capture has a file by default."""
    assert options.elsewhere == elsewhere


def test_an_interface_that_does_not_fit(tmp_path: Path) -> None:
    """A file that is full ends where it is: what opens later is in the next one."""
    muxer = Muxer(Form.PCAPNG, 262144, ordered=False)
    muxer.source(1, source("a/0"), 5)
    muxer.packets(1, record(0, 4), 0.0)
    pieces = muxer.take_pieces(0.0)
    options = FileOptions(Rotation(size=sum(len(piece.data) for piece in pieces)))
    files = opened(tmp_path / "x.pcapng", Form.PCAPNG, options, muxer, force=False)
    write(files, pieces, 0.0)
    muxer.source(2, source("b/0"), 5)
    write(files, muxer.take_pieces(0.0), 0.0)
    muxer.packets(2, record(1, 4), 0.0)
    write(files, muxer.take_pieces(0.0), 0.0)
    files.close()
    found = [read(Path(written.name))[:3] for written in files.inventory.kept]
    assert found == [([0], [0], 1), ([1], [1], 2)]


def test_files_that_cannot_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be closed is reported, and the other files are closed all the same."""
    muxer = Split(Form.PCAPNG, 262144)
    files = opened(tmp_path / "x.pcapng", Form.PCAPNG, FileOptions(split=True), muxer, force=False)
    for number in (1, 2):
        muxer.source(number, source(f"a/{number}"), 5)
    write(files, muxer.take_pieces(0.0), 0.0)
    closed: List[int] = []
    close = os.close

    def fail(fd: int) -> None:
        close(fd)
        closed.append(fd)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(output_module.os, "close", fail)
        with pytest.raises(OutputError, match=r"cannot write to .*x_a_1\.pcapng: Input/output error"):
            files.close()
    assert len(closed) == 2


def test_names() -> None:
    """The suffix stays at the end, and nothing of an instance's name leads elsewhere."""
    assert part_name("d.x/web.pcap", "../a b", 3, "T") == "d.x/web_.._a_b_00003_T.pcap"
    assert part_name("web", "a/0") == "web_a_0"


def test_one_file_is_as_it_was(tmp_path: Path) -> None:
    """Without rotation options there is one file, by its name."""
    files = capture(tmp_path, Form.PCAPNG, FileOptions(), [[4, 4], [4]])
    assert [path.name for path in tmp_path.iterdir()] == ["x.pcapng"]
    assert read(tmp_path / "x.pcapng")[0] == [0, 1, 2]
    assert not files.inventory.several and files.inventory.size == (tmp_path / "x.pcapng").stat().st_size


def test_a_piece_knows_its_packets() -> None:
    """A piece knows its number of packets, by which rotation counts."""
    muxer = Muxer(Form.PCAPNG, 262144, ordered=False)
    muxer.source(1, source("a/0"), 5)
    muxer.packets(1, record(0, 4) + record(1, 4), 0.0)
    kinds = [(piece.kind, piece.packets) for piece in muxer.finish_pieces(10)]
    assert kinds == [
        (Kind.HEADER, 0), (Kind.INTERFACE, 0), (Kind.NAMES, 0), (Kind.PACKETS, 2), (Kind.STATISTICS, 0),
    ]  # fmt: skip
    assert isinstance(muxer.finish_pieces(10)[0], Piece)
