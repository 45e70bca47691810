"""The real Wireshark, with a window on a display of its own (Xvfb), captures through pcapctl."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from demo.processes import end, wait_until
from tests.kit.hosts.chain import Chain
from tests.kit.hosts.wireshark import User
from tests.kit.lab.readers import require

require("wireshark", "Xvfb", "xwininfo")

pytestmark = pytest.mark.long

#: Seconds for Wireshark to start, ask everybody for interfaces and show a window, on a busy machine.
PATIENCE = 60.0
#: Title of a message box.
MESSAGE = re.compile("Wireshark")


@pytest.fixture
def display(tmp_path: Path) -> Iterator[str]:
    """A display that nobody sees."""
    read, write = os.pipe()
    with (tmp_path / "xvfb.log").open("wb") as log:
        argv = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
        server = subprocess.Popen(argv, pass_fds=[write], stdout=log, stderr=log)
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        end(server)


def titles(display: str) -> list[str]:
    """Titles of Wireshark's windows; a message box has its name alone."""
    argv = ["xwininfo", "-display", display, "-root", "-tree"]
    tree = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return re.findall(r'"(.*)": \("wireshark" "Wireshark"\)', tree)


@pytest.mark.parametrize(
    ("targets", "title"),
    [
        pytest.param("web-0", re.compile("Capturing from pcapd hosts.*"), id="control"),
        pytest.param("", MESSAGE, id="nothing-chosen"),
        pytest.param("web-9", MESSAGE, id="unknown"),
    ],
)
def test_a_window(
    chain: Chain,
    alice: User,
    display: str,
    targets: str,
    title: re.Pattern[str],
) -> None:
    """A capture that cannot start ends in a message; the window does not stand still, as it did."""
    alice.preferences["pcapctl_hosts.targets"] = targets
    argv = ["wireshark", "-k", "-i", "pcapctl-hosts", *alice.command()[1:]]
    environment = {**alice.environment, "DISPLAY": display, "XDG_RUNTIME_DIR": str(alice.home)}
    with (alice.home / "wireshark.log").open("wb") as log:
        wireshark = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=alice.home
        )
    try:
        wait_until(
            lambda: any(map(title.fullmatch, titles(display))),
            f"a window {title.pattern!r}",
            timeout=PATIENCE,
        )
        # The kernel's name for: waits that a pipe is opened.
        assert "wait_for_partner" not in Path(f"/proc/{wireshark.pid}/wchan").read_text()
    finally:
        end(wireshark)
    wait_until(lambda: not alice.left_behind(), "nothing is left running")
    wait_until(chain.settled, "the agents have stopped")
