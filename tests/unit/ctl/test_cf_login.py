"""The cf CLI's configuration as a file: bounded reading, and atomic writing that loses nobody's tokens."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from pcapd.clouds.uaa import LoginProblem, Tokens
from pcapd.ctl.login.cfconfig import parse_login
from pcapd.ctl.login.cflogin import NotSaved, read_login, save_tokens
from pcapd.ctl.login.cloud import CfSession
from pcapd.ctl.login.fetch import Answer
from pcapd.limits import CONFIG_MAX
from tests.kit.lab.memory import traced

OLD = {
    "ConfigVersion": 4,
    "Target": "https://api.x",
    "AccessToken": "bearer old",
    "RefreshToken": "old-refresh",
    "Ours": "not",
}
NEW = Tokens("new", "new-refresh")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a configuration that the user made a little too open."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OLD, indent=3))
    path.chmod(0o644)
    return path


def test_saved(path: Path) -> None:
    """Both tokens are replaced, the file is the user's alone, and nothing is left beside it."""
    before = path.read_text()
    save_tokens(path, read_login(path), NEW)
    assert path.read_text() == before.replace("bearer old", "bearer new").replace(
        "old-refresh", "new-refresh"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_reader_sees_whole_files(path: Path) -> None:
    """The file is replaced, not rewritten: whoever has it open reads on in the old one."""
    with path.open() as file:
        save_tokens(path, read_login(path), NEW)
        assert json.load(file) == OLD


def test_symbolic_link(path: Path) -> None:
    """A link (people keep such files in repositories of their own) stays one."""
    link = path.parent / "link.json"
    link.symlink_to(path)
    save_tokens(link, read_login(link), NEW)
    assert link.is_symlink()
    assert read_login(path).access_token == "new"


def test_someone_was_faster(path: Path) -> None:
    """Tokens that the cf CLI has written in the meantime are kept."""
    login = read_login(path)
    path.write_text(json.dumps({**OLD, "RefreshToken": "newer"}))
    before = path.read_bytes()
    save_tokens(path, login, NEW)
    assert path.read_bytes() == before


def test_logged_out_meanwhile(path: Path) -> None:
    """After a logout no tokens are written to the file."""
    login = read_login(path)
    path.write_text(json.dumps({**OLD, "AccessToken": "", "RefreshToken": ""}))
    with pytest.raises(NotSaved):
        save_tokens(path, login, NEW)
    assert "new" not in path.read_text()


def test_cannot_be_saved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write leaves the old file, and no half one beside it."""

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    login = read_login(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotSaved, match="No space left on device"):
        save_tokens(path, login, NEW)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_owner_stays(path: Path) -> None:
    """With sudo the file keeps its owner."""
    if os.getuid() != 0:
        pytest.skip("only root can have this problem")
    os.chown(path, 12345, 12345)
    save_tokens(path, read_login(path), NEW)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


def test_no_file(tmp_path: Path) -> None:
    """The path that was looked at is named, and what helps."""
    with pytest.raises(LoginProblem, match=r"nowhere.*cf login"):
        read_login(tmp_path / "nowhere")


def test_unusual_files(tmp_path: Path) -> None:
    """A directory, bytes that are no text, and a file without end are refused in words."""
    path = tmp_path / "config.json"
    with pytest.raises(LoginProblem, match="cannot read"):
        read_login(tmp_path)
    path.write_bytes(b'{"Target": "\xff"}')
    with pytest.raises(LoginProblem, match="not text"):
        read_login(path)
    with traced() as peak:
        with pytest.raises(LoginProblem, match="too large"):
            read_login(Path("/dev/zero"))
        assert peak() < 4 * CONFIG_MAX
    path.write_text(json.dumps(OLD).ljust(CONFIG_MAX))
    assert read_login(path) == parse_login(json.dumps(OLD))


# --- refreshing ---------------------------------------------------------------


class Uaa:
    """What a session asks UAA with; counts."""

    def __init__(self) -> None:
        self.asked = 0

    def post(self, *_: Any) -> Answer:
        self.asked += 1
        return Answer(200, {}, json.dumps({"access_token": "new", "refresh_token": "new-refresh"}).encode())


def access(ends: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": ends}).encode()).decode().rstrip("=")
    return f"head.{claims}.signature"


@pytest.mark.parametrize("good", [True, False])
def test_tokens_that_someone_else_got(path: Path, good: bool) -> None:
    """The cf CLI was faster: its token is used, and UAA is not asked; unless that one ends, too."""
    uaa: Any = Uaa()
    config = {**OLD, "AuthorizationEndpoint": "https://login.x"}
    path.write_text(json.dumps(config))
    session = CfSession(path, read_login(path), uaa, print)
    theirs = access(time.time() + (3600 if good else -3600))
    path.write_text(json.dumps({**config, "AccessToken": f"bearer {theirs}"}))
    session.refresh()
    assert uaa.asked == (0 if good else 1)
    assert session.token() == (theirs if good else "new")
