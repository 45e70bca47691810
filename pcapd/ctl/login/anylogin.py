"""Whichever login there is: a token, that of the cf CLI, or that of the BOSH CLI.

For the commands that ask an api about what belongs to a user (``pcapctl recordings``,
``pcapctl captures``).  A token is asked for anew before each request, because those of the CLIs are
valid for minutes only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Protocol, Tuple

from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.display.text import escape
from pcapd.ctl.login import bosh, cf
from pcapd.ctl.login.cfconfig import config_path
from pcapd.ctl.login.cflogin import read_login
from pcapd.ctl.options import Access, Trust, UsageProblem, read_token

__all__ = ["AnyLogin", "LoginArguments"]

_BOSH_HINT = "set PCAP_TOKEN, or log in with: cf login, or bosh log-in"


class _Session(Protocol):
    def token(self) -> str:
        """An access token that stays valid for a while."""


@dataclass(frozen=True)
class LoginArguments:
    """What the user gave.

    Attributes:
        api: The pcap api's URL; None to find it with Cloud Controller.
        ca: File of a CA.
        insecure: Whether certificates are not verified.
        way: ``token``, ``cf`` or ``bosh``; None for the first that there is.
        environment: Alias or URL of the director.
    """

    api: Optional[str] = None
    ca: Optional[Path] = None
    insecure: bool = False
    way: Optional[str] = None
    token_file: Optional[Path] = None
    environment: Optional[str] = None


class AnyLogin:
    """See the module.

    Args:
        asked: What the user gave.
        warn: Function that shows a problem which does not end the command.

    Attributes:
        way: ``token``, ``cf`` or ``bosh``.
        about: Which login is used at which api, as text.

    Raises:
        PcapdError: There is no login, or no api is known.
    """

    def __init__(self, asked: LoginArguments, warn: Callable[[str], None]) -> None:
        self._asked = asked
        self._session: Optional[_Session] = None
        self.way = asked.way or _first(asked)
        if self.way == "token":
            self._token = read_token(asked.token_file)
            self._api, about = _given(asked), "your token"
        elif self.way == "cf":
            trust = self._trust(Trust.ALSO_GIVEN)
            self._api, origin, self._session = cf.session_of(asked.api, asked.ca, trust, warn)
            about = f"your cf login ({origin})"
        else:
            self._api, about = _given(asked), "your BOSH login"
            self._session = _bosh_session(asked, self._trust(Trust.GIVEN), warn)
        self.about = f"{escape(self._api)} with {escape(about)}"

    def access(self) -> Access:
        """How to reach the api now.

        Raises:
            PcapdError: The login has expired, or its server failed.
        """
        token = self._token if self._session is None else self._session.token()
        trust = self._trust(Trust.ALSO_GIVEN if self.way == "cf" else Trust.GIVEN)
        return Access(self._api, token, self._asked.ca, trust, bosh=self.way == "bosh")

    def _trust(self, checked: Trust) -> Trust:
        return Trust.ANYBODY if self._asked.insecure else checked


def _first(asked: LoginArguments) -> str:
    """The first login that there is."""
    if asked.environment:
        return "bosh"
    if asked.token_file is not None or os.environ.get("PCAP_TOKEN", "").strip():
        return "token"
    try:
        read_login(config_path(os.environ))
    except LoginProblem:
        return "bosh"
    return "cf"


def _given(asked: LoginArguments) -> str:
    if not asked.api:
        raise UsageProblem("no api is given", "set PCAP_API, or name its URL with --api")
    return asked.api


def _bosh_session(asked: LoginArguments, trust: Trust, warn: Callable[[str], None]) -> _Session:
    found: Tuple[_Session, object]
    try:
        found = bosh.session_of(asked.environment, trust, warn)
    except LoginProblem as error:
        if asked.way == "bosh" or asked.environment or os.environ.get("BOSH_ENVIRONMENT"):
            raise
        raise UsageProblem("there is no login", _BOSH_HINT) from error
    return found[0]
