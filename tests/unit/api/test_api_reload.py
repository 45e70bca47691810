"""SIGHUP: everything that may change while an api runs changes at once, or nothing of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from demo.certificates import Authority, Credentials
from pcapd.api.service import Api
from pcapd.config.schema import (
    ApiConfig,
    BoshConfig,
    CloudFoundryConfig,
    ListenConfig,
    PolicyConfig,
    ServerTLS,
)
from pcapd.errors import ConfigError
from tests.kit.unit.api import config

FILES = ("own.crt", "own.key", "agents.crt", "cc.crt", "bosh.crt")


class Scene:
    """An api with all kinds of certificates in files of its own, and another configuration to come."""

    def __init__(self, directory: Path, credentials: Credentials, reactor: Clock) -> None:
        self.directory = directory
        self.problem: list[str] = []
        self.put(credentials)
        own, key, agents, cc, bosh = (directory / name for name in FILES)
        before = config(credentials, per_user=1)
        tls = replace(before.agents.tls, ca=agents)
        self.before = replace(
            before,
            agents=replace(before.agents, tls=tls),
            listen=ListenConfig(tls=ServerTLS(own, key, agents)),
            cloud_foundry=CloudFoundryConfig("https://cc.example.com", cc),
            bosh=BoshConfig("https://director.example.com", bosh),
        )
        self.after = replace(
            self.before,
            limits=replace(before.limits, per_user=3),
            policy=PolicyConfig(devices=("lo",)),
            drain_timeout=99.0,
        )
        self.api = Api(self.before, reactor, self._reread)

    def put(self, credentials: Credentials) -> None:
        """Replace every file."""
        for name, file in zip(
            FILES, (credentials.certificate, credentials.private_key, *[credentials.ca] * 3)
        ):
            shutil.copy(file, self.directory / name)

    def _reread(self) -> ApiConfig:
        if self.problem:
            raise ConfigError("config.yml", self.problem)
        return self.after

    def in_force(self) -> list[Any]:
        """Everything that a reload may replace, each as one object."""
        api: Any = self.api
        trusts = [resolver._trust.root for resolver in api._resolvers if hasattr(resolver, "_trust")]
        assert len(trusts) == 2
        return [api.config, api._client_context(), api._server_context(), *trusts]


@pytest.fixture
def scene(tmp_path: Path, credentials: Credentials, reactor: Clock, authority: Authority) -> Scene:
    scene = Scene(tmp_path, credentials, reactor)
    scene.put(authority.issue_api("renewed-api"))
    return scene


def messages(events: list[dict[str, Any]]) -> list[str]:
    return [event["log_format"].format(**event) for event in events]


def test_everything_is_reloaded(scene: Scene, events: list[dict[str, Any]]) -> None:
    """New limits and policy and every renewed file, and nothing else of the configuration; the log says so."""
    before = scene.in_force()
    scene.after = replace(scene.after, id="another", metrics=None)
    scene.api.reload()
    assert all(old is not new for old, new in zip(before, scene.in_force()))
    after = scene.after
    assert scene.api.config == replace(
        scene.before, limits=after.limits, policy=after.policy, drain_timeout=after.drain_timeout
    )
    assert messages(events)[-1] == "api reloaded its certificates and limits"


@pytest.mark.parametrize("broken", ["config.yml", *FILES])
def test_nothing_is_reloaded(scene: Scene, events: list[dict[str, Any]], broken: str) -> None:
    """When one file cannot be reloaded, all others stay as they were, and the log names the file."""
    before = scene.in_force()
    if broken == "config.yml":
        scene.problem = ["limits: nonsense"]
    else:
        (scene.directory / broken).write_text("nonsense")
    scene.api.reload()
    assert all(old is new for old, new in zip(before, scene.in_force()))
    said = messages(events)[-1]
    assert said.startswith("not reloaded, the old certificates and limits stay in use: ") and broken in said
