"""Every test that asks for ``records`` runs once per implementation."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest


@pytest.fixture(params=["_reference", "_native"], scope="session")
def records(request: pytest.FixtureRequest) -> ModuleType:
    """One implementation of pcapd.records."""
    try:
        return import_module(f"pcapd.records.{request.param}")
    except ImportError as problem:
        pytest.skip(f"pcapd.records.{request.param} is not built: {problem}")
