"""The scenarios run when they are named, or with all tests (``bin/test --all``)."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out of runs that name other tests, or none."""
    named = any("scenarios" in str(argument) for argument in config.invocation_params.args)
    if named or config.option.markexpr or os.environ.get("PCAPD_TEST_ALL"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
