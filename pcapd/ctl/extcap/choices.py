"""Looks up the values of an argument with the cf CLI's login.

Wireshark shows no errors here, so an error becomes the only choice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.extcap.configuration import Choice
from pcapd.ctl.login.cfconfig import config_path
from pcapd.ctl.login.cflogin import read_login
from pcapd.ctl.login.cloud import CfSession, CloudController
from pcapd.ctl.login.fetch import Client
from pcapd.ctl.options import Trust
from pcapd.errors import PcapdError

__all__ = ["apps", "choices"]

#: Characters that an extcap line cannot contain.
_UNFIT = frozenset("{}")


def choices(ca: Optional[Path]) -> List[Choice]:
    """The choices of the app, the only argument with a list.

    Args:
        ca: CA certificates in addition to the system's.
    """
    try:
        return apps(ca)
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


def _lines(error: PcapdError) -> List[str]:
    return [line for line in (error.hint, error.message) if line]


def _choice(name: str, guid: str) -> Choice:
    fit = name.isprintable() and name == name.strip() and not _UNFIT & set(name)
    return Choice(name if fit else guid, name)
