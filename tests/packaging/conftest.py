"""pcapctl as one file, for all tests that run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.client_file import Builder


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Fetch the wheels once."""
    return Builder(tmp_path_factory.mktemp("wheelhouse"))


@pytest.fixture(scope="session")
def client_file(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the file once."""
    return builder.build(tmp_path_factory.mktemp("client") / "pcapctl")
