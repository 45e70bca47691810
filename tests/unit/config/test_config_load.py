from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcapd.config.load import load_agent, load_api
from pcapd.config.schema import AgentConfig
from pcapd.errors import ConfigError
from pcapd.limits import CONFIG_MAX
from tests.kit.lab.memory import traced

AGENT = """\
listen:
  tls:
    {certificate: tls/agent.crt, private_key: tls/agent.key, client_cas: tls/ca.crt, allowed_clients: [api]}
"""
API = """\
listen: {tls: {certificate: tls/api.crt, private_key: tls/api.key, client_cas: tls/ca.crt}}
agents: {tls: {certificate: tls/api.crt, private_key: tls/api.key, ca: tls/ca.crt, server_name: agent}}
cloud_foundry: {api: "https://api.example.com", ca: tls/ca.crt}
bosh: {director: "https://192.0.2.1:25555", ca: tls/ca.crt}
"""


def agent(directory: Path, now: datetime, text: str = AGENT) -> AgentConfig:
    file = directory / "agent.yml"
    file.write_text(text)
    return load_agent(file, host_name="cell-1", now=now)


def problems(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **keywords)
    return list(caught.value.problems)


def test_an_agent(directory: Path, now: datetime) -> None:
    """Relative names in an agent's configuration are relative to its directory."""
    config = agent(directory, now)
    assert directory / "tls/agent.key" == config.listen.tls.private_key
    assert (config.id, config.warnings) == ("cell-1", ())


def test_an_api(directory: Path, now: datetime) -> None:
    """An api loads too, from a path given as text."""
    (directory / "api.yml").write_text(API)
    config = load_api(str(directory / "api.yml"), now=now)
    assert directory / "tls/ca.crt" == config.agents.tls.ca
    assert os.uname().nodename == config.id


def test_names_relative_to_a_relative_directory(
    directory: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are absolute even if the configuration was named relatively: a daemon changes directory."""
    agent(directory, now)
    monkeypatch.chdir(directory)
    assert directory / "tls/ca.crt" == load_agent("agent.yml", now=now).listen.tls.client_cas


def test_no_configuration(tmp_path: Path) -> None:
    """A configuration that cannot be read is one problem, and the error names its path."""
    with pytest.raises(ConfigError) as caught:
        load_agent(tmp_path / "none.yml")
    assert str(tmp_path / "none.yml") == caught.value.source
    assert caught.value.problems == ("the file cannot be read: No such file or directory",)


def test_a_directory_as_configuration(tmp_path: Path) -> None:
    """A directory in place of a configuration is refused."""
    assert problems(load_api, tmp_path) == ["the file cannot be read: Is a directory"]


def test_a_huge_configuration(tmp_path: Path) -> None:
    """A file beyond the limit is refused, also when it would parse."""
    file = tmp_path / "huge.yml"
    file.write_text("#" * (CONFIG_MAX + 1))
    assert problems(load_agent, file) == ["the file is larger than 1MiB"]


def test_no_more_is_read_of_a_huge_configuration_than_shows_that_it_is(tmp_path: Path) -> None:
    """A disk that is given by mistake is not read into memory."""
    file = tmp_path / "huge.yml"
    file.touch()
    os.truncate(file, 32 * CONFIG_MAX)
    with traced() as peak:
        assert problems(load_agent, file) == ["the file is larger than 1MiB"]
        assert peak() < 4 * CONFIG_MAX


def test_a_pipe_as_configuration(directory: Path, now: datetime) -> None:
    """A pipe, as a shell's <(...) makes it, can be read."""
    reader, writer = os.pipe()
    os.write(writer, AGENT.replace("tls/", f"{directory}/tls/").encode())
    os.close(writer)
    assert load_agent(f"/proc/self/fd/{reader}", now=now).listen.port == 9494
    os.close(reader)


def test_files_that_are_not_there(tmp_path: Path, now: datetime) -> None:
    """Every named file that cannot be read is a problem with its key's path."""
    assert [
        f"listen.tls.certificate: {tmp_path}/tls/agent.crt cannot be read: No such file or directory",
        f"listen.tls.private_key: {tmp_path}/tls/agent.key cannot be read: No such file or directory",
        f"listen.tls.client_cas: {tmp_path}/tls/ca.crt cannot be read: No such file or directory",
    ] == problems(agent, tmp_path, now)


def test_every_file_of_an_api_is_checked(tmp_path: Path, now: datetime) -> None:
    """Certificates, keys and CAs of all sections of an api are checked."""
    (tmp_path / "api.yml").write_text(API)
    assert sorted(problem.split(":")[0] for problem in problems(load_api, tmp_path / "api.yml", now=now)) == [
        "agents.tls.ca",
        "agents.tls.certificate",
        "agents.tls.private_key",
        "bosh.ca",
        "cloud_foundry.ca",
        "listen.tls.certificate",
        "listen.tls.client_cas",
        "listen.tls.private_key",
    ]


def test_problems_of_text_keys_and_files_together(directory: Path, now: datetime) -> None:
    """Duplicate keys, wrong values and bad files are reported in one go."""
    (directory / "tls/ca.crt").unlink()
    found = problems(agent, directory, now, AGENT + "log_level: loud\nid: a\nid: b\n")
    assert [problem.split(":")[0] for problem in found] == ["line 6", "log_level", "listen.tls.client_cas"]


def test_files_without_pem(directory: Path, now: datetime) -> None:
    """A file that is no PEM is a problem that does not quote it."""
    for name in ("agent.crt", "agent.key", "ca.crt"):
        (directory / "tls" / name).write_text("a secret")
    assert [
        f"listen.tls.certificate: {directory}/tls/agent.crt contains no readable certificate in PEM format",
        f"listen.tls.private_key: {directory}/tls/agent.key contains no readable private key in PEM format",
        f"listen.tls.client_cas: {directory}/tls/ca.crt contains no readable certificate in PEM format",
    ] == problems(agent, directory, now)


def test_a_huge_certificate(directory: Path, now: datetime) -> None:
    """A file that the configuration names is read up to a limit only."""
    (directory / "tls/ca.crt").write_bytes(b"x" * (CONFIG_MAX + 1))
    assert [f"listen.tls.client_cas: {directory}/tls/ca.crt is larger than 1MiB"] == problems(
        agent, directory, now
    )


def test_a_key_of_another_certificate(directory: Path, now: datetime) -> None:
    """A private key of another certificate is refused."""
    (directory / "tls/api.key").replace(directory / "tls/agent.key")
    assert [
        f"listen.tls.private_key: {directory}/tls/agent.key is not the key of the certificate"
    ] == problems(agent, directory, now)


def test_an_encrypted_key(directory: Path, now: datetime, make_pair: Callable[..., Any]) -> None:
    """A key with a passphrase is refused: nobody could give it."""
    pair = make_pair()
    pair.key_pem = pair.private_bytes(BestAvailableEncryption(b"passphrase"))
    pair.write(directory / "tls", "agent")
    (problem,) = problems(agent, directory, now)
    assert "agent.key is encrypted" in problem


def test_an_expired_certificate(directory: Path, now: datetime, make_pair: Callable[..., Any]) -> None:
    """Our own certificate must not have expired; its key is checked all the same."""
    make_pair(now - timedelta(minutes=1)).write(directory / "tls", "agent")
    (directory / "tls/agent.key").write_text("")
    first, second = problems(agent, directory, now)
    assert f"listen.tls.certificate: {directory}/tls/agent.crt expired on 2025-12-31 23:59 UTC" == first
    assert "private_key" in second


def test_a_certificate_of_tomorrow(directory: Path, now: datetime, make_pair: Callable[..., Any]) -> None:
    """Our own certificate must be valid already."""
    make_pair(now + timedelta(days=3)).write(directory / "tls", "agent")
    (problem,) = problems(agent, directory, now)
    assert problem.endswith("agent.crt is not valid before 2026-01-02 00:00 UTC")


def test_a_chain(directory: Path, now: datetime, make_pair: Callable[..., Any]) -> None:
    """The first certificate of a chain must match the key, the others need not."""
    with (directory / "tls/agent.crt").open("ab") as chain:
        chain.write(make_pair().certificate_pem)
    assert agent(directory, now).warnings == ()


def test_authorities_while_one_is_replaced(
    directory: Path, now: datetime, make_pair: Callable[..., Any]
) -> None:
    """An expired CA beside a good one is fine; expired ones alone are a problem."""
    ca = directory / "tls/ca.crt"
    good, expired = ca.read_bytes(), make_pair(now - timedelta(days=1)).certificate_pem
    ca.write_bytes(expired + good)
    agent(directory, now)
    ca.write_bytes(expired)
    assert [f"listen.tls.client_cas: {ca} contains expired certificates only"] == problems(
        agent, directory, now
    )


def test_a_key_that_others_can_read(directory: Path, now: datetime) -> None:
    """A private key readable by every user is a warning; the group may read it."""
    key = directory / "tls/agent.key"
    key.chmod(0o640)
    assert agent(directory, now).warnings == ()
    key.chmod(0o604)
    assert (f"listen.tls.private_key: {key} can be read by every user",) == agent(directory, now).warnings


@pytest.mark.parametrize("name", ["agent.key", "agent.crt", "ca.crt"])
def test_files_that_others_can_change(directory: Path, now: datetime, name: str) -> None:
    """A key, certificate or authority that others can change is a warning."""
    file = directory / "tls" / name
    file.chmod(0o602)
    (warning,) = agent(directory, now).warnings
    assert warning.endswith(f"{file} can be changed by every user")


def test_a_configuration_that_others_can_change(directory: Path, now: datetime) -> None:
    """A configuration file that others can change is a warning."""
    config = directory / "agent.yml"
    agent(directory, now)
    config.chmod(0o666)
    (warning,) = load_agent(config, now=now).warnings
    assert warning == f"the configuration: {config} can be changed by every user"


def test_a_name_that_no_file_can_have(directory: Path, now: datetime) -> None:
    """A path that cannot be encoded is a problem, not an exception."""
    (problem,) = problems(agent, directory, now, AGENT.replace("tls/ca.crt", '"\\ud800"'))
    assert problem.startswith("listen.tls.client_cas: ")


def test_namespaces_need_not_exist(directory: Path, now: datetime) -> None:
    """Namespaces and the files that `containers` names need not exist at the start."""
    config = agent(directory, now, AGENT + "namespaces: {a: /no/such}\ncontainers: {store: /no/such}\n")
    assert {"a": Path("/no/such")} == config.namespaces


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=200))
def test_any_file(tmp_path: Path, data: bytes) -> None:
    """Any content of the file loads or raises a ConfigError."""
    (tmp_path / "any.yml").write_bytes(data)
    for load in (load_agent, load_api):
        with pytest.raises(ConfigError):
            load(tmp_path / "any.yml")


def test_the_directory_of_the_client(directory: Path, now: datetime) -> None:
    """The directory of the client must be a directory; the problem has its path."""
    (directory / "api.yml").write_text(API + "cli: {directory: client}")
    problem = f"cli.directory: {directory}/client is not a directory"
    assert problems(load_api, directory / "api.yml", now=now) == [problem]
    (directory / "client").touch()
    assert problems(load_api, directory / "api.yml", now=now) == [problem]
    (directory / "client").unlink()
    (directory / "client").mkdir()
    config = load_api(directory / "api.yml", now=now)
    assert config.cli is not None and config.cli.directory == directory / "client"


def test_the_file_of_audit_records(directory: Path, now: datetime) -> None:
    """The file of audit records need not exist, its directory must."""
    (directory / "api.yml").write_text(API + "audit: {file: logs/audit.log}")
    assert problems(load_api, directory / "api.yml", now=now) == [
        f"audit.file: {directory}/logs is not a directory"
    ]
    (directory / "logs").mkdir()
    config = load_api(directory / "api.yml", now=now)
    assert config.audit is not None and config.audit.file == directory / "logs/audit.log"
