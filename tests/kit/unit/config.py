"""The least configurations of agent and api, and what parsing them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
import yaml

from pcapd.config.parse import parse_agent, parse_api
from pcapd.config.schema import (
    AgentConfig,
    ApiConfig,
)
from pcapd.errors import ConfigError

HASH = "ab" * 32
EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

AGENT = """
listen: {tls: {certificate: a.crt, private_key: a.key, client_cas: /ca.crt, allowed_clients: [pcap-api]}}
"""
API = """
agents: {tls: {certificate: a.crt, private_key: a.key, ca: ca.crt, server_name: pcap-agent}}
listen: {host: 127.0.0.1}
"""
CLOUD_FOUNDRY = 'cloud_foundry: {api: "https://api.example.com"}\n'
STATIC = f"""
static:
  users: {{alice: {{token_sha256: {HASH}, targets: [vm]}}}}
  targets: {{vm: {{host: 10.0.0.7}}}}
"""


def agent(text: str) -> AgentConfig:
    return parse_agent(yaml.safe_load(text), host_name="cell-1", directory=Path("/etc/pcapd"), source="a.yml")


def api(text: str) -> ApiConfig:
    return parse_api(yaml.safe_load(text), host_name="api-1", directory=Path("/etc/pcapd"), source="b.yml")


def problems(parse: Callable[[str], object], text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return list(caught.value.problems)
