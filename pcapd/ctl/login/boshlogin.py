"""The BOSH CLI's configuration file: bounded reads, and atomic rewriting."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import List, Optional

from pcapd.clouds.uaa import LoginProblem, Tokens
from pcapd.ctl.login.boshconfig import Environment, Settings, aliases, environment_of, with_tokens
from pcapd.ctl.login.cflogin import NotSaved, replace_file
from pcapd.limits import CONFIG_MAX

__all__ = ["read_aliases", "read_ca", "read_environment", "save_tokens"]


def read_environment(path: Path, given: Settings) -> Environment:
    """Read what is needed to reach an environment.

    Args:
        path: The BOSH CLI's configuration, which may be missing.

    Raises:
        LoginProblem: The user is not logged in to it.
    """
    return environment_of(_read(path, "check BOSH_CONFIG", needed=False), given)


def read_aliases(path: Path) -> List[str]:
    """Read the aliases of environments; none if there is no configuration.

    Args:
        path: The BOSH CLI's configuration.

    Raises:
        LoginProblem: It cannot be read.
    """
    return aliases(_read(path, "check BOSH_CONFIG", needed=False) or "")


def read_ca(ca: str) -> str:
    """PEM text of a CA: the argument itself, or the content of the file that it names.

    Raises:
        LoginProblem: There is no certificate in it.
    """
    hint = "BOSH_CA_CERT must be PEM text, or the path of a PEM file"
    path = Path(ca).expanduser() if ca and "BEGIN" not in ca else None
    pem = _read(path, hint) if path else ca
    if pem:
        try:
            ssl.create_default_context(cadata=pem)
        except (ValueError, ssl.SSLError) as error:
            place = path or "the CA of the BOSH environment"
            raise LoginProblem(f"{place} does not contain a readable certificate", hint) from error
    return pem or ""


def save_tokens(path: Path, used: Environment, tokens: Tokens) -> None:
    """Replace the tokens that the file holds, if it still holds those that were used.

    The BOSH CLI writes the whole file without a lock; if another program has written it
    meanwhile, it holds newer tokens than ours.

    Raises:
        NotSaved: The file is unchanged.
    """
    try:
        text = _read(path, "") or ""
        if environment_of(text, Settings(used.key)).refresh_token != used.refresh_token:
            return
        renewed = with_tokens(text, used.key, tokens)
        if renewed != text:
            replace_file(Path(os.path.realpath(path)), renewed.encode(), keep_mode=True)
    except (LoginProblem, OSError) as error:
        reason = error.message if isinstance(error, LoginProblem) else error.strerror
        raise NotSaved(f"the refreshed login could not be saved in {path}: {reason}") from error


def _read(path: Path, hint: str, *, needed: bool = True) -> Optional[str]:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_MAX + 1)
        if len(content) > CONFIG_MAX:
            raise LoginProblem(f"{path} is too large", hint)
        return content.decode()
    except FileNotFoundError as error:
        if not needed:
            return None
        raise LoginProblem(f"{path} does not exist", hint) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise LoginProblem(f"cannot read {path}: {reason}", hint) from error
