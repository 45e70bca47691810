from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from pcapd.config.load import load_agent, load_api
from pcapd.config.schema import (
    AgentConfig,
    ApiConfig,
    CloudFoundryClient,
    CloudFoundryConfig,
    ContainersConfig,
    OptInConfig,
)

ETC = Path(__file__).parents[3] / "etc"


@pytest.fixture
def etc(directory: Path) -> Path:
    """A copy of etc/ with certificates."""
    return Path(shutil.copytree(ETC, directory, dirs_exist_ok=True))


def switch_on(file: Path) -> Path:
    """Uncomment what the example has switched off: prose alone has one space after its '#'."""
    file.write_text(re.sub(r"^( *)#(?=[^ \n]|  )", r"\1", file.read_text(), flags=re.MULTILINE))
    return file


def test_the_agent_example(etc: Path, now: datetime) -> None:
    """etc/pcapd-agent.yml loads as it is, and says the defaults."""
    config = load_agent(etc / "pcapd-agent.yml", host_name="here", now=now)
    assert AgentConfig(id="here", listen=config.listen) == config
    assert (config.listen.host, config.listen.port) == ("0.0.0.0", 9494)
    assert config.listen.tls.allowed_clients == ("pcap-api.service.cf.internal",)


def test_the_api_example(etc: Path, now: datetime) -> None:
    """etc/pcapd-api.yml loads as it is, and says the defaults."""
    config = load_api(etc / "pcapd-api.yml", host_name="here", now=now)
    assert ApiConfig.limits == config.limits
    assert ApiConfig.drain_timeout == config.drain_timeout
    assert ApiConfig.trusted_proxies == config.trusted_proxies
    assert config.static is not None
    assert tuple(target.namespace for target in config.static.targets.values()) == ("web-0", None)
    assert config.warnings == ()


def test_all_of_the_agent_example(etc: Path, now: datetime) -> None:
    """The agent example's commented sections can be switched on, and show the defaults."""
    config = load_agent(switch_on(etc / "pcapd-agent.yml"), now=now)
    assert ("router/0", ContainersConfig(), "vcap") == (config.id, config.containers, config.run_as)
    assert {"web-0": Path("/run/netns/web-0")} == config.namespaces


def test_all_of_the_api_example(etc: Path, now: datetime) -> None:
    """The api example's commented sections can be switched on."""
    (etc / "cli").mkdir()
    config = load_api(switch_on(etc / "pcapd-api.yml"), now=now)
    assert config.listen.tls is not None
    assert etc / "tls/ca.crt" == config.listen.tls.client_cas
    opt_in = OptInConfig(("pcap.example.com/capture", "allowed"))
    client = CloudFoundryClient("pcap-api", secret_file=etc / "cloud_foundry/client_secret")
    expected = CloudFoundryConfig("https://api.example.com", etc / "tls/ca.crt", opt_in=opt_in, client=client)
    assert expected == config.cloud_foundry
    assert config.bosh is not None
    assert (config.bosh.agent_port, config.bosh.token_scope) == (9494, None)
    assert config.id == "pcap-api/0"
