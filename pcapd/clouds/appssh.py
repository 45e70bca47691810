"""Reads what Cloud Controller answers about ssh to the instances of an app.  Plain functions.

Sources: cloud_controller_ng's app_ssh_status_presenter.rb (the reason names the first of the
three switches that is off) and process_stats_presenter.rb (the ports of an instance).
"""

from __future__ import annotations

import shlex
from typing import Any, Dict, Final, List, Tuple

from pcapd.clouds.reading import AnswerReader, json_object, printable
from pcapd.errors import Forbidden

__all__ = ["check_ssh", "parse_space", "sshd_ports"]

_ANSWER = AnswerReader("Cloud Controller's")
#: The port of diego-sshd in a container.
_SSHD_PORT: Final = 2222


def check_ssh(body: bytes, app: str, space: str) -> None:
    """Read ``GET /v3/apps/GUID/ssh_enabled``.

    Args:
        app: Name of the app.
        space: Name of its space.

    Raises:
        Forbidden: ssh is disabled; the hint names the command that enables it.
        ResolverUnavailable: The answer is not valid.
    """
    what = "ssh"
    value = _ANSWER.mapping(body, what)
    if _ANSWER.member(value, "enabled", bool, what):
        return
    reason = printable(value["reason"]) if isinstance(value.get("reason"), str) else ""
    restart = f"then: cf restart {shlex.quote(app)}"
    if reason.lower().startswith("disabled for space"):
        message = f"ssh is disabled for the space {space}"
        hint = f"enable it with: cf allow-space-ssh {shlex.quote(space)}; {restart}"
    elif reason.lower().startswith("disabled for app"):
        message = f"ssh is disabled for the app {app}"
        hint = f"enable it with: cf enable-ssh {shlex.quote(app)}; {restart}"
    elif reason.lower().startswith("disabled globally"):
        message, hint = "ssh is disabled for all apps of this foundation", "only the operator can enable it"
    else:
        message = f"ssh is disabled for the app {app}{f': {reason}' if reason else ''}"
        hint = f"check: cf ssh-enabled {shlex.quote(app)}"
    raise Forbidden(message, hint)


def parse_space(body: bytes) -> str:
    """The GUID of the space in ``GET /v3/apps/GUID``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    value: Any = _ANSWER.mapping(body, "an app")
    for key in ("relationships", "space", "data"):
        value = _ANSWER.member(value, key, dict, "an app")
    return _ANSWER.member(value, "guid", str, "an app")


def sshd_ports(body: bytes) -> Dict[int, Tuple[int, ...]]:
    """The ports that carry ssh in each container, by the instance's index.

    These are diego-sshd's own port, and the port where Envoy accepts connections for it.
    Old versions of Cloud Controller do not show the latter.

    Args:
        body: The answer to ``GET /v3/apps/GUID/processes/TYPE/stats``, which was checked.
    """
    found = {}
    for entry in _objects(json_object(body).get("resources")):
        index = entry.get("index")
        if isinstance(index, int):
            found[index] = (_SSHD_PORT, *_proxies(entry))
    return found


def _proxies(entry: Dict[str, Any]) -> List[int]:
    ports = []
    for mapping in _objects(entry.get("instance_ports")):
        proxy = mapping.get("internal_tls_proxy_port")
        if mapping.get("internal") == _SSHD_PORT and type(proxy) is int and 0 < proxy < 1 << 16:
            ports.append(proxy)
    return ports


def _objects(value: Any) -> List[Dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
