"""A BOSH director, as much of it as we use, with its errors.

Follows the director: ``/info`` without a token; 401 with a text body for a token
that is not accepted, 401 with JSON code 600000 for one that lacks a scope, 404 with
code 70000 for what does not exist, which is said *before* the scopes are looked at;
instances without a VM have ``ips: []`` and nulls; only readable deployments are listed;
what takes time is a task (`tests.kit.doubles.directortasks`).
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Optional

from demo.certificates import Credentials
from tests.kit.doubles.directortasks import SshAgent, Tasks, set_up_ssh
from tests.kit.doubles.https import Answer, Asked, HttpsDouble
from tests.kit.doubles.uaa import Uaa

DIRECTOR_UUID = "7c1b3c1e-5f0c-4d6a-9a55-0d5a2f6f9f10"
#: Seconds that the BOSH CLI's access tokens are good, as in bosh-deployment.
ACCESS_VALIDITY = 120


def director_error(status: int, code: int, description: str) -> Answer:
    """Say no, in the director's form."""
    return Answer(status, {"code": code, "description": description})


def not_authorized(path: str) -> Answer:
    """What is said of no token, and of one that is not accepted."""
    headers = (
        ("Content-Type", "text/html;charset=utf-8"),
        ("WWW-Authenticate", 'Basic realm="BOSH Director"'),
    )
    return Answer(401, f"Not authorized: '{path}'\n".encode(), headers)


@dataclass
class Instance:
    """One instance of a deployment; without ``ips`` it has no VM."""

    group: str
    index: int
    ips: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    az: Optional[str] = "z1"
    expects_vm: bool = True

    @property
    def name(self) -> str:
        return f"{self.group}/{self.id}"

    def entry(self) -> dict[str, Any]:
        """Its entry in the list of instances."""
        there = bool(self.ips)
        return {
            "agent_id": str(uuid.uuid4()) if there else None,
            "cid": f"i-{self.id[:8]}" if there else None,
            "job": self.group,
            "index": self.index,
            "id": self.id,
            "az": self.az,
            "ips": self.ips,
            "vm_created_at": "2026-11-01T10:00:00Z" if there else None,
            "expects_vm": self.expects_vm,
        }


@dataclass
class Deployment:
    """A deployment and the teams that own it."""

    name: str
    instances: list[Instance] = field(default_factory=list)
    teams: list[str] = field(default_factory=list)


class Director(HttpsDouble):
    """The director.

    Args:
        uaa: Whose access tokens it takes.

    Attributes:
        deployments: By name.
        info: Laid over the answer to ``/info``.
        tasks: Its tasks.
        agents: The agents that set up ssh, by the id of the instance.
        gateway: User and host that the operator has configured for ssh, if any.
    """

    def __init__(self, credentials: Credentials, uaa: Uaa, port: int = 0) -> None:
        super().__init__(credentials, port)
        self.uaa = uaa
        self.uuid = DIRECTOR_UUID
        self.deployments: dict[str, Deployment] = {}
        self.info: dict[str, Any] = {}
        self.tasks = Tasks()
        self.agents: dict[str, SshAgent] = {}
        self.gateway: Optional[tuple[str, str]] = None

    def add(self, deployment: Deployment) -> Deployment:
        """Deploy."""
        self.deployments[deployment.name] = deployment
        return deployment

    def token(self, *scopes: str, user: Optional[str] = "alice", **claims: Any) -> str:
        """Let UAA give somebody a token for the BOSH CLI; the audience follows from the scopes."""
        client = claims.pop("client", "bosh_cli")
        audience = sorted({scope.rpartition(".")[0] for scope in scopes if "." in scope} | {client})
        given = {"scope": list(scopes), "aud": audience, "exp": int(time.time()) + ACCESS_VALIDITY}
        return self.uaa.token(client=client, user=user, **{**given, **claims})

    def paths(self) -> list[str]:
        """Return what was asked for."""
        return [asked.path for asked in self.asked]

    # --- answers -----------------------------------------------------------

    def answer(self, asked: Asked) -> Answer:
        """Route a request."""
        if asked.path == "/info":
            return Answer(body=self._info())
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        claims = self.uaa.access_tokens.get(token)
        if scheme.lower() != "bearer" or claims is None or claims["exp"] <= time.time():
            return not_authorized(asked.path)
        scopes = set(claims["scope"])
        parts = asked.path.strip("/").split("/")
        if parts == ["deployments"]:
            return self._list(scopes)
        if len(parts) == 3 and parts[0] == "deployments" and parts[2] == "instances":
            return self._instances(parts[1], asked, scopes)
        # For Sinatra, another type of content is another endpoint.
        to_do = asked.method == "POST" and asked.headers.get("content-type") == "application/json"
        if len(parts) == 3 and parts[0] == "deployments" and parts[2] == "ssh" and to_do:
            return self._ssh(parts[1], asked, scopes)
        if parts[0] == "tasks":
            return self._task(parts[1:], asked, scopes)
        return Answer(404, f"Endpoint '{asked.path}' not found.\n".encode(), (("Content-Type", "text/html"),))

    def _info(self) -> dict[str, Any]:
        options = {"url": self.uaa.url, "urls": [self.uaa.url]}
        return {
            "name": "lab",
            "uuid": self.uuid,
            "version": "282.1.5 (00000000)",
            "user": None,
            "cpi": "warden_cpi",
            "stemcell_os": "ubuntu-noble",
            "stemcell_version": "1.425",
            "user_authentication": {"type": "uaa", "options": options},
            "features": {"local_dns": {"status": True, "extras": {"domain_name": "bosh"}}},
            **self.info,
        }

    # --- ssh ---------------------------------------------------------------

    def _ssh(self, name: str, asked: Asked, scopes: set[str]) -> Answer:
        """An admin of the deployment gets a task; behind nginx, its place has an inner address."""
        deployment = self.deployments.get(name)
        if deployment is None:
            return director_error(404, 70000, f"Deployment '{name}' doesn't exist")
        needed = {f"bosh{own}.admin" for own in ("", f".{self.uuid}")}
        needed |= {scope for scope in self._team_scopes(deployment) if scope.endswith(".admin")}
        if not scopes & needed:
            return self._lacking(needed)
        payload = json.loads(asked.body)
        target = payload["target"]
        entries = [instance.entry() for instance in deployment.instances if instance.ips]
        if target.get("job"):
            entries = [entry for entry in entries if entry["job"] == target["job"]]
        if target["ids"]:
            wanted = [str(id) for id in target["ids"]]
            entries = [entry for entry in entries if {entry["id"], str(entry["index"])} & set(wanted)]
        number = self.tasks.start(lambda: set_up_ssh(payload, entries, self.agents, self.gateway))
        return Answer(302, headers=(("Location", f"http://127.0.0.1:25556/tasks/{number}"),))

    def _task(self, parts: list[str], asked: Asked, scopes: set[str]) -> Answer:
        everything = scopes & (self._readers() | {s for s in scopes if s.startswith("bosh.teams.")})
        task = self.tasks.get(parts[0]) if parts else None
        if task is None:
            return director_error(404, 10000, f"Task {'/'.join(parts)} not found")
        if not everything:
            return self._lacking(self._readers())
        if parts[1:] == ["output"]:
            if asked.query.get("type") != ["result"]:
                return self._lacking({"bosh.admin"})
            text = (("Content-Type", "text/plain"),)
            return Answer(body=task.output.encode(), headers=text) if task.output else Answer(204)
        return Answer(body=task.facts())

    def _readers(self) -> set[str]:
        return {f"bosh{own}.{right}" for own in ("", f".{self.uuid}") for right in ("admin", "read")}

    def _list(self, scopes: set[str]) -> Answer:
        """Only those that may be read; who reads none at all, but of a team, is refused."""
        everything = bool(scopes & self._readers())
        if not everything and not any(s.startswith("bosh.teams.") and s.endswith(".admin") for s in scopes):
            return self._lacking(self._readers())
        found = [
            {"name": deployment.name, "teams": deployment.teams}
            for deployment in self.deployments.values()
            if everything or scopes & self._team_scopes(deployment)
        ]
        return Answer(body=json.dumps(found).encode())

    def _team_scopes(self, deployment: Deployment) -> set[str]:
        return {f"bosh.teams.{team}.{right}" for team in deployment.teams for right in ("admin", "read")}

    def _lacking(self, needed: set[str]) -> Answer:
        return director_error(401, 600000, f"Require one of the scopes: {', '.join(sorted(needed))}")

    def _instances(self, name: str, asked: Asked, scopes: set[str]) -> Answer:
        deployment = self.deployments.get(name)
        if deployment is None:
            return director_error(404, 70000, f"Deployment '{name}' doesn't exist")
        needed = self._readers() | self._team_scopes(deployment)
        if not scopes & needed:
            return self._lacking(needed)
        if asked.query.get("format") == ["full"]:
            return Answer(302, headers=(("Location", f"{self.url}/tasks/1"),))
        return Answer(body=json.dumps([instance.entry() for instance in deployment.instances]).encode())
