"""SIGHUP: an agent's certificates and its limit change together, or not at all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from demo.certificates import Authority
from pcapd.agent.agent import Agent
from pcapd.config.schema import AgentConfig, AgentListenConfig, CaptureConfig, ServerTLS
from tests.kit.unit.agent import API_NAME


@pytest.mark.parametrize("broken", [None, "agent.crt", "agent.key"])
def test_all_or_nothing(tmp_path: Path, authority: Authority, broken: str | None) -> None:
    """A reload that cannot use a file keeps the old limit; otherwise everything is new."""
    shown = authority.issue_agent("reloading-agent")
    certificate, key = tmp_path / "agent.crt", tmp_path / "agent.key"
    shutil.copy(shown.certificate, certificate)
    shutil.copy(shown.private_key, key)
    tls = ServerTLS(certificate, key, shown.ca, (API_NAME,))
    before = AgentConfig(
        id="agent/0", listen=AgentListenConfig(tls=tls), capture=CaptureConfig(max_captures=4)
    )
    after = replace(before, id="another", capture=CaptureConfig(max_captures=9, promiscuous=False))
    agent: Any = Agent(before, Clock(), lambda: after)
    context = agent._context()
    if broken is not None:
        (tmp_path / broken).write_text("nonsense")
    agent.reload()
    renewed = replace(before, capture=CaptureConfig(max_captures=9))
    assert agent.config == (renewed if broken is None else before)
    assert (agent._context() is context) is (broken is not None)
