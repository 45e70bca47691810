"""The release's jobs: what their specs say, and their templates rendered as the director renders them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional

import yaml

from demo.certificates import AGENT_NAME, API_NAME, Authority, Credentials
from demo.processes import ROOT, run

RELEASE = ROOT / "bosh"
MANIFESTS = RELEASE / "manifests"
OPS = MANIFESTS / "ops-files"
JOBS = ("pcap-api", "pcap-agent")

_RENDERER = Path(__file__).with_name("render.rb")
_INSTANCE = {
    "name": "pcap",
    "id": "3f2a0c5e-0000-4000-8000-000000000001",
    "index": 0,
    "az": "z1",
    "ip": "10.0.0.5",
    "address": "10.0.0.5",
    "bootstrap": True,
    "deployment": "pcap",
    "networks": {"default": {"ip": "10.0.0.5"}},
}


class RenderError(AssertionError):
    """A template could not be rendered; the message is what the director would say."""


@dataclass(frozen=True)
class Rendered:
    """The files of one instance's job.

    Attributes:
        files: Texts by their paths in the job's directory, and ``monit``.
        asked: Names of the properties that were asked for.
    """

    files: Mapping[str, str]
    asked: frozenset[str]

    def yaml(self, target: str) -> Any:
        """One file, read as YAML."""
        return yaml.safe_load(self.files[target])

    def write(self, directory: Path) -> None:
        """Lay the files out as the BOSH agent does; what is in bin can be executed."""
        for target, text in self.files.items():
            path = directory / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o750 if target.startswith("bin/") else 0o640)


def job_spec(job: str) -> dict[str, Any]:
    """What a job's spec says."""
    loaded: dict[str, Any] = yaml.safe_load((RELEASE / "jobs" / job / "spec").read_text())
    return loaded


def render(job: str, properties: Mapping[str, Any], links: Optional[Mapping[str, Any]] = None) -> Rendered:
    """Render a job for one instance.

    Args:
        job: Its name, or the directory of another one.
        properties: As nested in a manifest.
        links: By name: ``instances``, ``properties``, ``address``.

    Raises:
        RenderError: A template failed.
    """
    question = {
        "job": str(RELEASE / "jobs" / job),
        "properties": properties,
        "spec": _INSTANCE,
        "links": links or {},
    }
    answer = json.loads(run(["ruby", str(_RENDERER)], input=json.dumps(question)).stdout)
    if "error" in answer:
        raise RenderError(f"{answer['template']}: {answer['error']}")
    return Rendered(answer["files"], frozenset(answer["asked"]))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as a manifest has them, from dotted names."""
    result: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        node = result
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return result


@dataclass(frozen=True)
class Issued:
    """What a deployment's variables would hold: certificates of one CA for the api and the agents."""

    api: Credentials
    agent: Credentials

    @classmethod
    def by(cls, authority: Authority) -> Issued:
        """Issue them."""
        return cls(
            authority.issue("bosh-api", dns=(API_NAME, "localhost"), ips=("127.0.0.1",)),
            authority.issue("bosh-agent", dns=(AGENT_NAME,), client=False),
        )

    def api_properties(self) -> dict[str, Any]:
        """The least that the api's job requires, but for something to capture."""
        certificate, key = self.api.certificate.read_text(), self.api.private_key.read_text()
        return {
            "listen.tls.certificate": certificate,
            "listen.tls.private_key": key,
            "agents.tls.certificate": certificate,
            "agents.tls.private_key": key,
            "agents.tls.ca": self.api.ca.read_text(),
            "agents.tls.server_name": AGENT_NAME,
        }

    def agent_properties(self) -> dict[str, Any]:
        """The least that the agent's job requires."""
        return {
            "listen.tls.certificate": self.agent.certificate.read_text(),
            "listen.tls.private_key": self.agent.private_key.read_text(),
            "listen.tls.client_cas": self.agent.ca.read_text(),
            "listen.tls.allowed_clients": [API_NAME],
        }


#: What our ops files touch of cf-deployment, and of a deployment without variables.
FOUNDATION = {
    "name": "cf",
    "instance_groups": [
        {
            "name": "router",
            "jobs": [
                {
                    "name": "gorouter",
                    "release": "routing",
                    "properties": {"router": {"ca_certs": ["((uaa_ssl.ca))"]}},
                }
            ],
        },
        {
            "name": "uaa",
            "jobs": [{"name": "uaa", "release": "uaa", "properties": {"uaa": {"clients": {"cf": {}}}}}],
        },
        {"name": "diego-cell", "jobs": [{"name": "rep", "release": "diego", "properties": {}}]},
    ],
    "variables": [{"name": "service_cf_internal_ca", "type": "certificate", "options": {"is_ca": True}}],
    "releases": [{"name": "diego", "version": "2.130.0"}],
}
HAPROXY = {
    "name": "haproxy",
    "instance_groups": [{"name": "haproxy", "jobs": [{"name": "haproxy", "release": "haproxy"}]}],
    "releases": [{"name": "haproxy", "version": "15.0.0"}],
}
