"""The cf CLI's configuration file: bounded reads, and rewriting as the cf CLI does it."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from pcapd.clouds.uaa import LoginProblem, Tokens
from pcapd.ctl.login.cfconfig import Login, parse_login, with_tokens
from pcapd.errors import PcapdError
from pcapd.limits import CONFIG_MAX

__all__ = ["NotSaved", "read_login", "replace_file", "save_tokens"]


class NotSaved(PcapdError):
    """New tokens could not be saved for the CLI."""


def read_login(path: Path) -> Login:
    """Read the login.

    Raises:
        LoginProblem: There is no usable login.
    """
    return parse_login(_read(path))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_MAX + 1)
        if len(content) > CONFIG_MAX:
            raise LoginProblem(f"{path} is too large for a configuration file", "check CF_HOME")
        return content.decode()
    except FileNotFoundError as error:
        raise LoginProblem(f"there is no cf login: {path} does not exist", "log in with: cf login") from error
    except OSError as error:
        raise LoginProblem(f"cannot read {path}: {error.strerror}", "check its permissions") from error
    except UnicodeDecodeError as error:
        hint = "log in with: cf login, which repairs it"
        raise LoginProblem(f"{path} is not text", hint) from error


def save_tokens(path: Path, used: Login, tokens: Tokens) -> None:
    """Replace the tokens that the file holds, if it still holds those that were used.

    The cf CLI replaces the whole file too; if another program has written it meanwhile,
    it holds newer tokens than ours.

    Raises:
        NotSaved: The file is unchanged.
    """
    try:
        text = _read(path)
        if parse_login(text).refresh_token != used.refresh_token:
            return
        renewed = with_tokens(text, tokens)
        if renewed != text:
            replace_file(Path(os.path.realpath(path)), renewed.encode())
    except (LoginProblem, OSError) as error:
        reason = error.message if isinstance(error, LoginProblem) else error.strerror
        raise NotSaved(f"the refreshed login could not be saved in {path}: {reason}") from error


def replace_file(path: Path, content: bytes, *, keep_mode: bool = False) -> None:
    """Write a temporary file beside the old one and rename it, so that the file is always complete.

    Args:
        keep_mode: Keep the permissions of the old file; otherwise only the owner can read it.

    Raises:
        OSError: The file is unchanged.
    """
    before = path.stat()
    # 0600 from the start; named as the cf CLI names its own (util/configv3/write_config.go).
    fd, temporary = tempfile.mkstemp(prefix="temp-config", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if (before.st_uid, before.st_gid) != (os.getuid(), os.getgid()):
                # With sudo, the owner must not change.
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            if keep_mode:
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
