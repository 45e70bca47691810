"""Every test that asks for ``merging`` runs once per implementation."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.kit.implementations import NAMES, implementation


@pytest.fixture(params=NAMES, scope="session")
def merging(request: pytest.FixtureRequest) -> ModuleType:
    """One implementation of pcapd.merge."""
    return implementation("merge", request.param)
