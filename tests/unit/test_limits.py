"""Waits nest: a wait for a peer that waits itself is longer, whatever the numbers are."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pcapd import limits

SOURCE = Path(limits.__file__).read_text()


def changed(**values: float) -> Any:
    """`pcapd.limits` with other values of these; what is computed from them follows."""
    source = SOURCE
    for name, value in values.items():
        source, count = re.subn(rf"(?m)^{name}: Final = .*$", f"{name}: Final = {value}", source)
        assert count == 1, name
    module: dict[str, Any] = {"__name__": "changed"}
    exec(compile(source, limits.__file__, "exec"), module)
    return SimpleNamespace(**module)


def stop_nests(limit: Any) -> None:
    """An agent is given up before its capture, its capture before the api, the api before the client."""
    assert limit.STOP_WATCH_INTERVAL < limit.STOP_STALL_TIMEOUT
    assert limit.STOP_STALL_TIMEOUT + limit.STOP_WATCH_INTERVAL < limit.DRAIN_TIMEOUT
    assert limit.DRAIN_TIMEOUT + limit.STOP_WATCH_INTERVAL < limit.API_STOP_TIMEOUT
    assert limit.API_STOP_TIMEOUT < limit.API_STOP_LIMIT
    assert limit.CLIENT_SILENCE_TIMEOUT < limit.API_STOP_LIMIT


def start_nests(limit: Any) -> None:
    """Everything that an api waits for before a first source, one after the other, fits into the client's wait."""
    first_agent = limit.AGENT_CONNECT_TIMEOUT + 2 * limit.HANDSHAKE_TIMEOUT + limit.GATHER_TIME
    assert limit.AUTHORITY_CALL_TIMEOUT <= limit.AUTHORITY_TIMEOUT
    assert limit.AUTHORITY_TIMEOUT + first_agent + limit.OPEN_TIMEOUT < limit.API_START_TIMEOUT


@pytest.mark.parametrize("drain", [limits.DRAIN_TIMEOUT, 5.0, 60.0, 300.0])
def test_the_stop(drain: float) -> None:
    """The waits after STOP are computed from the api's: a longer drain makes all of them longer."""
    stop_nests(changed(DRAIN_TIMEOUT=drain))


@pytest.mark.parametrize("name", ["AUTHORITY_TIMEOUT", "OPEN_TIMEOUT", "GATHER_TIME", "HANDSHAKE_TIMEOUT"])
def test_the_start(name: str) -> None:
    """The waits before the first source are computed from the api's as well."""
    start_nests(limits)
    start_nests(changed(**{name: 3 * getattr(limits, name)}))


def test_other_waits_within_waits() -> None:
    """A wait within another one is shorter than it."""
    assert limits.GATHER_TIME < limits.START_TIMEOUT
    assert limits.FILTER_COMPILE_TIMEOUT < limits.OPEN_TIMEOUT
    assert 2 * limits.RUNC_TIMEOUT + limits.STORE_LOCK_TIMEOUT < limits.OPEN_TIMEOUT
    assert limits.CONNECT_TIMEOUT < limits.EXCHANGE_TIMEOUT
    assert limits.STATS_INTERVAL < limits.STOP_STALL_TIMEOUT
    assert 2 * limits.CLIENT_PING_INTERVAL < limits.API_SILENCE_TIMEOUT
