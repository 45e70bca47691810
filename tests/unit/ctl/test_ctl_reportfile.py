"""``--report FILE``: where it may be written, which is asked before anything starts and again at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Tuple, Type

import pytest

from pcapd.ctl.options import CaptureOptions, UsageProblem
from pcapd.ctl.sinks.reportfile import ReportFailed, check, reported, write
from pcapd.errors import PcapdError
from pcapd.savefile.form import Form


def options(directory: Path, name: str = "report.json", **changes: Any) -> CaptureOptions:
    return CaptureOptions(str(directory / "x.pcapng"), Form.PCAPNG, report=directory / name, **changes)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file, a directory and a named pipe in it."""
    (tmp_path / "there").write_text("mine")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize("changes", [{"name": "new"}, {"name": "there", "force": True}, {"name": "pipe"}])
def test_places_that_take_it(changes: Any, place: Path) -> None:
    """A new file, one that may be overwritten, and what is no file."""
    check(options(place, **changes))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("x.pcapng", UsageProblem, "cannot be the same file"),
        ("directory/../x.pcapng", UsageProblem, "cannot be the same file"),
        ("directory", ReportFailed, "is a directory"),
        ("no/report.json", ReportFailed, "does not exist"),
    ],
)
def test_no_place_for_it(name: str, kind: Type[PcapdError], words: str, force: bool, place: Path) -> None:
    """A report file that cannot be written is refused, with and without --force."""
    with pytest.raises(kind, match=words) as refused:
        check(options(place, name, force=force))
    assert refused.value.hint


def test_what_is_there_stays(place: Path) -> None:
    """An existing report file stays unless it may be overwritten, also one that appears during the capture."""
    asked = options(place, "there")
    with pytest.raises(ReportFailed, match="exists"):
        check(asked)
    with pytest.raises(ReportFailed, match="exists"):
        write(asked, {"packets": 3})
    assert (place / "there").read_text() == "mine" and len(list(place.iterdir())) == 3
    write(options(place, "there", force=True), {"packets": 3})
    assert json.loads((place / "there").read_text())["packets"] == 3


@pytest.mark.parametrize(("name", "guarded"), [("new", ""), ("pipe", "pipe")])
def test_a_place_that_may_not_be_written(
    name: str, guarded: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that may not be written is refused: for a file the directory counts, for a pipe the pipe itself."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != place / guarded)
    with pytest.raises(ReportFailed, match="cannot be written"):
        check(options(place, name))


def test_a_pipe_stays_one(place: Path) -> None:
    """The report goes into it; no file takes its place."""
    pipe = os.open(place / "pipe", os.O_RDWR | os.O_NONBLOCK)  # both ends: nobody has to wait
    write(options(place, "pipe"), {"packets": 3})
    assert json.loads(os.read(pipe, 65536))["packets"] == 3
    os.close(pipe)
    assert (place / "pipe").is_fifo()


@pytest.mark.parametrize("linked", [False, True])
def test_it_is_its_users_alone(linked: bool, place: Path) -> None:
    """Only the user can read the report, whatever the old file's mode or readers; a link's target is replaced."""
    (place / "there").chmod(0o666)
    (place / "link").symlink_to(place / "there")
    with (place / "there").open() as reader:
        write(options(place, "link" if linked else "there", force=True), {"packets": 3})
        assert reader.read() == "mine"
    assert (place / "there").stat().st_mode & 0o777 == 0o600
    assert (place / "link").is_symlink() and json.loads((place / "link").read_text())["packets"] == 3


def test_nobody_wants_one(tmp_path: Path) -> None:
    """Without the option no report is checked or written."""
    without = CaptureOptions(str(tmp_path / "x.pcapng"), Form.PCAPNG)
    check(without)
    write(without, {"packets": 3})
    assert list(tmp_path.iterdir()) == []


def test_it_is_asked_first(place: Path) -> None:
    """A capture whose report could not be written is not started."""
    done = []
    with pytest.raises(ReportFailed, match="exists"), reported(options(place, "there")):
        done.append("captured")
    assert not done


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PcapdError("the api is gone", "start it"), ("the api is gone (start it)", 1)),
        (UsageProblem("no token"), ("no token", 2)),
        (KeyboardInterrupt(), ("interrupted", 1)),
    ],
)
def test_a_capture_that_did_not_begin(error: BaseException, outcome: Tuple[str, int], place: Path) -> None:
    """A capture that did not begin has a report with the reason."""
    with pytest.raises(type(error)), reported(options(place)):
        raise error
    report = json.loads((place / "report.json").read_text())
    assert (report["error"], report["exit_status"]) == outcome
