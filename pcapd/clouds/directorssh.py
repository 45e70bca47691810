"""A BOSH director's set-up of ssh: requests, and what is read from the answers.  Plain functions.

Sources: the BOSH CLI's director/ssh.go and director/task_client_request.go; the director's
deployments_controller.rb, tasks_controller.rb and jobs/ssh.rb; the agent's action/ssh.go.

``POST /deployments/NAME/ssh`` is answered with a redirect to a task.  The task asks the agents
one after the other, and fails as a whole if one agent does not answer: the accounts that were
made before remain, and their answers are lost.  So each request names one instance.
The director does not remove accounts by itself, and neither does the agent.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Dict, Final, List, Optional, Sequence
from urllib.parse import urlsplit

from pcapd.clouds.director import Vm, refusal
from pcapd.clouds.reading import AnswerReader, json_object, printable
from pcapd.errors import Forbidden, RequestError, ResolverUnavailable

__all__ = [
    "Account",
    "Task",
    "clean_up_request",
    "parse_accounts",
    "parse_task",
    "set_up_request",
    "ssh_refusal",
    "task_id",
    "task_refusal",
]

_ANSWER = AnswerReader("the director's")
_TASK: Final = "a task"
_SSH: Final = "ssh"
_TASK_PATH = re.compile(r"/tasks/([0-9]{1,18})")
#: An ssh public key: its type and its base64 text, without a comment.
_HOST_KEY = re.compile(r"([a-z0-9@.-]{1,64}) +([A-Za-z0-9+/]{16,16384}={0,2})(?: .*)?")
#: A user name, and a host name or an address; both become words of ssh.
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,252}")
#: States of a task that is not finished (task_client_request.go).
_RUNNING: Final = frozenset({"queued", "processing", "cancelling"})


@dataclass(frozen=True)
class Account:
    """An account that an agent has made on its VM.

    Attributes:
        id: The id of the instance.
        address: The VM's IP address.
        host_key: The public key of its ssh server, type and base64 text; empty if the agent
            did not say.
        gateway_user: The user on the jump host; empty without one.
        gateway_host: The jump host that the director suggests; empty without one.
    """

    id: str
    address: str
    host_key: str = ""
    gateway_user: str = ""
    gateway_host: str = ""


@dataclass(frozen=True)
class Task:
    """The state of a task.

    Attributes:
        state: One word, such as ``queued``, ``done`` or ``error``.
        result: For a failed task: the reason, as text of the director's.
    """

    state: str
    result: str = ""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.state in _RUNNING

    @property
    def done(self) -> bool:
        """Whether it has succeeded."""
        return self.state == "done"


# --- requests ------------------------------------------------------------------


def set_up_request(deployment: str, vm: Vm, user: str, public_key: str) -> Dict[str, Any]:
    """The request for an account on one VM."""
    return _request("setup", deployment, vm, {"user": user, "public_key": public_key})


def clean_up_request(deployment: str, vm: Vm, user: str) -> Dict[str, Any]:
    """The request to remove the account from one VM."""
    return _request("cleanup", deployment, vm, {"user_regex": f"^{user}$"})


def _request(command: str, deployment: str, vm: Vm, params: Dict[str, str]) -> Dict[str, Any]:
    target = {"job": vm.group, "indexes": [vm.id], "ids": [vm.id]}
    return {"command": command, "deployment_name": deployment, "target": target, "params": params}


# --- answers --------------------------------------------------------------------


def ssh_refusal(status: int, body: bytes, deployment: str) -> RequestError:
    """The error for an answer to ``POST /deployments/NAME/ssh`` that is not a redirect."""
    error = refusal(status, body, deployment)
    if not isinstance(error, Forbidden):
        return error
    described = json_object(body).get("description")
    needed = printable(described) if isinstance(described, str) else "you need bosh.admin"
    return Forbidden(
        f"the director does not let you use ssh in deployment {deployment}: {needed}",
        "ask the operator for the admin scope of one of the deployment's teams, as for bosh ssh",
    )


def task_id(location: Optional[str]) -> int:
    """The number of the task to which the director redirects.

    Args:
        location: The header Location.  Behind a proxy, scheme and host may be wrong, so only
            the path is used.

    Raises:
        ResolverUnavailable: It does not name a task.
    """
    try:
        found = _TASK_PATH.fullmatch(urlsplit(location or "").path)
    except ValueError:
        found = None
    if found is None:
        raise _ANSWER.nonsense(_SSH)
    return int(found[1])


def task_refusal(status: int) -> ResolverUnavailable:
    """The error for an answer about a task whose status is not 200."""
    return ResolverUnavailable(f"the director does not tell about its task: status {status}")


def parse_task(body: bytes) -> Task:
    """Read ``GET /tasks/ID``.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    value = _ANSWER.mapping(body, _TASK)
    result = value.get("result")
    return Task(
        printable(_ANSWER.member(value, "state", str, _TASK)),
        printable(result.strip()) if isinstance(result, str) else "",
    )


def parse_accounts(body: bytes) -> List[Account]:
    """Read ``GET /tasks/ID/output?type=result`` of a set-up: each line is a JSON array.

    An entry whose status is not success is left out.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    lines = [line for line in body.splitlines() if line.strip()]
    entries: List[Dict[str, Any]] = []
    for line in lines:
        entries += _ANSWER.entries(_ANSWER.value(line, _SSH), _SSH)
    return [_account(entry) for entry in entries if entry.get("status") == "success"]


def _account(entry: Dict[str, Any]) -> Account:
    try:
        address = str(ipaddress.ip_address(_ANSWER.member(entry, "ip", str, _SSH)))
    except ValueError as error:
        raise _ANSWER.nonsense(_SSH) from error
    key = _optional(entry, "host_public_key")
    found = _HOST_KEY.fullmatch(key)
    if key and found is None:
        raise _ANSWER.nonsense(_SSH)
    user, host = _optional(entry, "gateway_user"), _optional(entry, "gateway_host")
    if (user and not _USER.fullmatch(user)) or (host and not _HOST.fullmatch(host)):
        raise _ANSWER.nonsense(_SSH)
    return Account(
        id=_ANSWER.member(entry, "id", str, _SSH),
        address=address,
        host_key=f"{found[1]} {found[2]}" if found is not None else "",
        gateway_user=user,
        gateway_host=host,
    )


def _optional(entry: Dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _ANSWER.nonsense(_SSH)
    return value.strip()


def account_of(vm: Vm, accounts: Sequence[Account]) -> Optional[Account]:
    """The account on a VM; None if the answer has none."""
    return next((account for account in accounts if account.id == vm.id), None)
