"""``--explain`` at the end of a capture (docs/findings.rst)."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from tests.kit.doubles.stream_api import Client
from tests.kit.hosts.scripted import ended, play, started


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("explain-api", dns=("localhost",), ips=(LOCAL,))


def healthy(client: Client) -> None:
    started(client)
    ended(client, 3)


def test_it_says_what_went_wrong(credentials: Credentials, tmp_path: Path) -> None:
    """--explain prints its findings after the file is whole, as text, and as an event for scripts."""
    done = play(healthy, credentials, tmp_path, "--explain", json_lines=False)
    assert done.status == 0 and "nothing to report" in done.stderr
    done = play(healthy, credentials, tmp_path, "--explain", "--force")
    explained = done.events[-2]
    assert done.end["packets"] == 3
    assert (explained["event"], explained["version"], explained["findings"]) == ("explanation", 1, [])


def test_it_needs_a_file(credentials: Credentials, tmp_path: Path) -> None:
    """--explain without a file is refused before the capture starts."""
    done = play(lambda client: None, credentials, tmp_path, "--explain", "--output", "-")
    assert done.status == 2 and "--explain" in done.stderr
