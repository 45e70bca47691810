"""Every test that asks for ``records`` runs once per implementation."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.kit.implementations import NAMES, implementation


@pytest.fixture(params=NAMES, scope="session")
def records(request: pytest.FixtureRequest) -> ModuleType:
    """One implementation of pcapd.records."""
    return implementation("records", request.param)
