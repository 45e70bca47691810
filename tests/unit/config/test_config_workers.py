"""``workers`` and ``state`` of an api's configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pcapd.config.parse_recordings import STATE
from tests.kit.unit.config import API, STATIC, api, problems

RECORDINGS = "recordings: {store: file:///r}\n"


@pytest.mark.parametrize(
    ("text", "workers", "state"),
    [
        ("", 1, None),
        (RECORDINGS, 1, STATE),
        ("workers: 2\n", 2, STATE),
        ("workers: 1\nstate: postgresql+pg8000://u:p@db/pcap\n", 1, "postgresql+pg8000://u:p@db/pcap"),
        ("workers: 3\nstate_file: state\n" + RECORDINGS, 3, "file:/etc/pcapd/state"),
    ],
)
def test_what_is_shared(text: str, workers: int, state: str | None) -> None:
    """Workers and recordings need a database; a single api without recordings shares one only if it is named."""
    config = api(API + STATIC + text)
    assert (config.workers, config.state, config.worker) == (workers, state, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("workers: 0\n", "workers: "),
        ("workers: 65\n", "workers: "),
        ("workers: two\n", "workers: "),
        ("state: mysql://db\n", "state: "),
        ("state: sqlite:///s.db\nstate_file: s\n", "state, state_file: only one may be given"),
        ("workers: 2\n", "workers: needs a listen.port other than 0"),
    ],
)
def test_what_is_wrong(text: str, problem: str) -> None:
    """A number that makes no sense, a database that is none, and a port that workers cannot share are problems."""
    base = API.replace("127.0.0.1}", "127.0.0.1, port: 0}") + STATIC
    (found,) = problems(api, base + text)
    assert found.startswith(problem)


def test_the_name_of_a_process() -> None:
    """Each worker's name differs from those of the others and of the supervisor."""
    config = api(API + STATIC + "workers: 2\n")
    assert config.process == "api-1"
    assert [replace(config, worker=number).process for number in (0, 1)] == [
        "api-1 worker 0",
        "api-1 worker 1",
    ]
