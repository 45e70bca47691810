"""Looks up the values of an argument with the user's login.

Wireshark shows no errors here, so an error becomes the only choice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, List, Optional

from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.extcap.parts import Choice
from pcapd.ctl.login.anylogin import AnyLogin, LoginArguments
from pcapd.ctl.login.cfconfig import config_path
from pcapd.ctl.login.cflogin import read_login
from pcapd.ctl.login.cloud import CfSession, CloudController
from pcapd.ctl.login.fetch import Client
from pcapd.ctl.options import Trust
from pcapd.ctl.recordings.calls import listed
from pcapd.ctl.recordings.moments import shown
from pcapd.ctl.recordings.text import short, target
from pcapd.errors import PcapdError

__all__ = ["apps", "choices", "recordings"]

#: Characters that an extcap line cannot contain.
_UNFIT = frozenset("{}")


def choices(look_up: Callable[[], List[Choice]]) -> List[Choice]:
    """The choices that a function looks up."""
    try:
        return look_up()
    except PcapdError as error:
        # The list is narrow and cuts long lines: the hint comes first, on a separate line.
        return [Choice("", line, default=not number) for number, line in enumerate(_lines(error))]


def apps(ca: Optional[Path]) -> List[Choice]:
    """The apps of the space that the cf CLI targets.

    Raises:
        PcapdError: They are not available; the hint suggests a remedy.
    """
    path = config_path(os.environ)
    login = read_login(path)
    if not login.space_guid:
        raise LoginProblem("the cf CLI has no targeted space", "choose one with: cf target -o ORG -s SPACE")
    client = Client(ca, Trust.ALSO_GIVEN)
    controller = CloudController(login.target, CfSession(path, login, client, lambda _: None), client)
    found = [_choice(name, guid) for name, guid in controller.apps(login.space_guid)]
    if not found:
        return [Choice("", f"there are no apps in space {login.space or login.space_guid}", default=True)]
    return [found[0]._replace(default=True), *found[1:]]


def recordings(asked: LoginArguments) -> List[Choice]:
    """The user's recordings, the newest first.

    Raises:
        PcapdError: They are not available; the hint suggests a remedy.
    """
    found = listed(AnyLogin(asked, lambda _: None).access())["recordings"]
    found.sort(key=lambda one: str(one.get("since_us")), reverse=True)
    if not found:
        return [Choice("", "you have no recordings", default=True)]
    ids = [str(one["id"]) for one in found]
    lines = [
        f"{target(one)}, {shown(one.get('since_us'))}, {one.get('state')}, {short(id, ids)}"
        for id, one in zip(ids, found)
    ]
    return [Choice(id, line, default=not number) for number, (id, line) in enumerate(zip(ids, lines))]


def _lines(error: PcapdError) -> List[str]:
    return [line for line in (error.hint, error.message) if line]


def _choice(name: str, guid: str) -> Choice:
    fit = name.isprintable() and name == name.strip() and not _UNFIT & set(name)
    return Choice(name if fit else guid, name)
