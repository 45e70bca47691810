"""The output: what is written, what is refused, and what a broken write leaves behind."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import threading
from pathlib import Path
from typing import Any, Callable, NoReturn

import pytest

from pcapd.ctl.options import UsageProblem, choose_form
from pcapd.ctl.sinks import compressed as compressed_module
from pcapd.ctl.sinks import output as output_module
from pcapd.ctl.sinks.compressed import open_output
from pcapd.ctl.sinks.output import Output, OutputError, ReaderLeft
from pcapd.savefile import blocks
from pcapd.savefile.form import Form
from tests.kit.files import block

HEADER = blocks.section_header("pcapd", "")
BLOCK = blocks.interface_description("web-0:eth0", 1, 262144, "", "", ())
PACKET = block("<", 0, 5, bytes(60))


def test_a_file_is_made_with_its_first_block(tmp_path: Path) -> None:
    """A capture that brings nothing leaves nothing; packets are the owner's alone."""
    path = tmp_path / "x.pcapng"
    output = Output(str(path), Form.PCAPNG, force=False)
    output.write([])
    output.write([b""])
    assert not path.exists() and not output.opened
    output.write([HEADER, BLOCK])
    output.close()
    assert path.read_bytes() == HEADER + BLOCK and output.size == len(HEADER + BLOCK)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """The check at the start is no promise: the file is opened exclusively."""
    path = tmp_path / "x.pcapng"
    output = Output(str(path), Form.PCAPNG, force=False)
    path.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        output.write([HEADER])
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "words"), [("", "is a directory"), ("no/where.pcapng", "does not exist"), ("there", "exists")]
)
def test_what_cannot_be_written_is_said_before_anything_starts(tmp_path: Path, name: str, words: str) -> None:
    """A file that cannot be written is reported before the start, with a remedy."""
    (tmp_path / "there").write_text("mine")
    with pytest.raises(OutputError, match=words) as refused:
        Output(str(tmp_path / name), Form.PCAPNG, force=False)
    assert refused.value.hint


def test_a_directory_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be written is reported before the start, unless the file in it may be overwritten."""
    (tmp_path / "there").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(OutputError, match="cannot be written") as refused:
        Output(str(tmp_path / "x.pcapng"), Form.PCAPNG, force=False)
    assert refused.value.hint
    Output(str(tmp_path / "there"), Form.PCAPNG, force=True)


def test_packets_are_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets are not written to a terminal."""
    leader, follower = os.openpty()
    monkeypatch.setattr(output_module, "_STDOUT_FD", follower)
    with pytest.raises(OutputError, match="not written to a terminal"):
        Output("-", Form.PCAPNG, force=False)
    os.close(leader)
    os.close(follower)


def test_force_replaces_the_whole_file(tmp_path: Path) -> None:
    """With --force nothing of a longer old file stays behind the new end."""
    path = tmp_path / "x.pcapng"
    path.write_bytes(b"x" * 10_000)
    output = Output(str(path), Form.PCAPNG, force=True)
    output.write([HEADER])
    output.close()
    assert path.read_bytes() == HEADER


def shared(path: Path) -> Path:
    """A file that everybody may read."""
    path.write_text("old")
    path.chmod(0o666)
    return path


def plain(directory: Path) -> Path:
    return shared(directory / "x.pcapng")


def symlink(directory: Path) -> Path:
    (directory / "elsewhere").mkdir()
    (directory / "x.pcapng").symlink_to(shared(directory / "elsewhere" / "target.pcapng"))
    return directory / "x.pcapng"


def hard_link(directory: Path) -> Path:
    (directory / "x.pcapng").hardlink_to(shared(directory / "other-name.pcapng"))
    return directory / "x.pcapng"


def of_somebody_else(directory: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = shared(directory / "x.pcapng")
    os.chown(path, 65534, 65534)
    return path


@pytest.mark.parametrize("make", [plain, symlink, hard_link, of_somebody_else])
def test_force_makes_the_file_its_users_alone(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """With --force only the user can read the new file, whatever the old one's mode, links or readers."""
    path = make(tmp_path)
    linked = path.is_symlink()
    with path.open("rb") as reader:
        output = Output(str(path), Form.PCAPNG, force=True)
        output.write([HEADER])
        output.close()
        assert reader.read() == b"old"
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    assert path.read_bytes() == HEADER and path.is_symlink() == linked
    assert not list(tmp_path.glob(".pcapctl-*"))
    other = tmp_path / "other-name.pcapng"
    assert not other.exists() or other.read_text() == "old"


def test_force_in_a_directory_that_takes_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --force in a directory without write access, the user's own file is emptied and made private first."""

    def refuse(**_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output_module.tempfile, "mkstemp", refuse)
    path = shared(tmp_path / "x.pcapng")
    output = Output(str(path), Form.PCAPNG, force=True)
    output.write([HEADER])
    output.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == HEADER
    shared(path)
    monkeypatch.setattr(output_module.os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(OutputError, match="Operation not permitted"):
        Output(str(path), Form.PCAPNG, force=True).write([HEADER])
    assert path.read_text() == "old"


def test_a_full_device() -> None:
    """The kernel's words, and how many packets are missing."""
    output = Output("/dev/full", Form.PCAPNG, force=False)
    with pytest.raises(OutputError, match="No space left"):
        output.write([HEADER])


def test_a_write_that_breaks_is_cut_back_to_whole_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that breaks is cut back to whole blocks."""
    path = tmp_path / "x.pcapng"
    output = Output(str(path), Form.PCAPNG, force=False)
    written = os.write
    calls: list[int] = []

    def half(fd: int, data: Any) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return written(fd, bytes(data)[: len(HEADER) + 10])

    monkeypatch.setattr(output_module.os, "write", half)
    with pytest.raises(OutputError):
        output.write([HEADER, BLOCK])
    output.close()
    assert path.read_bytes() == HEADER and output.size == len(HEADER)


def test_a_reader_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed pipe is reported as such."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    monkeypatch.setattr(output_module, "_STDOUT_FD", write_fd)
    output = Output("-", Form.PCAPNG, force=False)
    with pytest.raises(ReaderLeft, match="closed the pipe"):
        output.write([HEADER])
    os.close(write_fd)


def test_a_pipe_that_would_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte arrives, although the pipe is full most of the time."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    monkeypatch.setattr(output_module, "_STDOUT_FD", write_fd)
    output = Output("-", Form.PCAPNG, force=False)
    got: list[bytes] = []

    def read() -> None:
        while data := os.read(read_fd, 4096):
            got.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    data = HEADER + BLOCK * 5000
    output.write([data])
    os.close(write_fd)
    reader.join(30)
    os.close(read_fd)
    assert b"".join(got) == data


def test_an_empty_capture_that_failed_leaves_no_file(tmp_path: Path) -> None:
    """An empty capture that failed leaves no file, unless the file was there before."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.write_text("mine")
    for path in (ours, theirs):
        output = Output(str(path), Form.PCAPNG, force=True)
        output.write([HEADER])
        output.close()
        output.discard()
    assert not ours.exists() and theirs.exists()


# --- compressed ----------------------------------------------------------------------------


def test_a_compressed_file_is_whole_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed file is whole after each of its members."""
    monkeypatch.setattr(compressed_module, "GZIP_WAITING", (200, 1e9))
    path = tmp_path / "x.pcapng.gz"
    output = open_output(str(path), Form.PCAPNG, force=False)
    written = b""
    for number in range(20):
        blocks = [HEADER] if number == 0 else [bytes(PACKET)]
        output.write(blocks)
        written += b"".join(blocks)
        assert written.startswith(gzip.decompress(path.read_bytes()))
        assert output.size == path.stat().st_size <= output.occupied < output.size + 200
    output.close()
    assert gzip.decompress(path.read_bytes()) == written


def test_a_full_disk_and_a_compressed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a compressed file ends with its last whole member, and later packets are counted."""
    monkeypatch.setattr(compressed_module, "GZIP_WAITING", (4 * len(PACKET), 1e9))
    path = tmp_path / "x.pcapng.gz"
    output = open_output(str(path), Form.PCAPNG, force=False)
    output.write([HEADER])
    size = output.size
    real = os.write

    def full(fd: int, data: memoryview) -> int:
        if len(data) > 10:
            return real(fd, data[: len(data) - 10])  # a part of the member, and then nothing more
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(3):
        output.write([bytes(PACKET)])
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="No space left") as failed:
        output.write([bytes(PACKET)])
    assert failed.value.unwritten == output.unwritten == 4
    output.close()
    assert gzip.decompress(path.read_bytes()) == HEADER and output.size == size


@pytest.mark.parametrize("name", ["x.pcapng.zst", "x.xz", "x.pcap.BZ2", "x.pcapng.lz4"])
def test_other_compressions_are_refused(name: str) -> None:
    """Other compressions are refused with the supported one."""
    with pytest.raises(UsageProblem, match=r"NAME\.pcapng\.gz"):
        choose_form(None, name)
    assert choose_form(None, "x.pcap.gz") is Form.PCAP and choose_form(None, "x.gz") is Form.PCAPNG
