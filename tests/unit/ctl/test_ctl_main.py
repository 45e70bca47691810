"""The command line: what is refused before anything starts, and with which words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable, List, Tuple

import pytest

from pcapd.ctl.extcap import install as installing
from pcapd.ctl.main import main
from pcapd.ctl.options import CaptureOptions, CaptureTarget, UsageProblem, read_token
from pcapd.savefile.form import Form

Pcapctl = Callable[..., Tuple[object, str]]


@pytest.fixture
def pcapctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pcapctl:
    """Run the command line, in a directory and an environment of its own: status, and what is said."""
    for name in ("PCAP_API", "PCAP_TOKEN", "BOSH_DEPLOYMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["pcapctl", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert list(tmp_path.iterdir()) == []
        return ended.value.code, capsys.readouterr().err

    return run


USAGE = {
    "no time": (("hosts", "a", "--duration", "0s"), "must be more than 0"),
    "no bytes": (("hosts", "a", "--max-bytes", "0B"), "must be more than 0"),
    "a size without a unit": (("hosts", "a", "--rotate-size", "100"), "needs a unit"),
    "no deployment": (("bosh", "--group", "router"), "no deployment is named (set BOSH_DEPLOYMENT"),
    "no api": (("status",), "no api is given (set PCAP_API"),
    "no token": (("hosts", "a", "--api", "https://pcap.invalid"), "no token is given (set PCAP_TOKEN"),
    "a check and none": (
        ("status", "--api", "https://pcap.invalid", "--insecure", "--ca", "ca.crt"),
        "--insecure and --ca exclude each other",
    ),
    "resumable without an api": (
        ("bosh", "-d", "cf", "--via", "ssh", "--resumable"),
        "--resumable needs the pcap api",
    ),
    "a ring without a recording": (
        ("hosts", "a", "--keep", "5m"),
        "--keep and --keep-bytes need --resumable",
    ),
    "nothing to install": (("extcap",), "specify either"),
    "both at once": (("extcap", "--install", "--uninstall"), "specify either"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(case: str, pcapctl: Pcapctl) -> None:
    """Status 2, with what would be right."""
    arguments, words = USAGE[case]
    status, said = pcapctl(*arguments)
    assert status == 2 and words in said


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_the_launcher(action: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The extcap launcher is installed or removed as requested."""
    done: List[str] = []
    monkeypatch.setattr(installing, "install", lambda directory: done.append("install"))
    monkeypatch.setattr(installing, "uninstall", lambda directory: done.append("uninstall") or [])
    main(arguments=["extcap", f"--{action}", "--directory", str(tmp_path)])
    assert done == [action]


def test_the_api_ends_what_we_cannot() -> None:
    """The api is asked for the same duration, and both clocks begin with the first source."""
    options = CaptureOptions("x.pcapng", Form.PCAPNG, duration=30.0)
    assert options.request(CaptureTarget(("web-0",))).duration == 30.0
    assert CaptureOptions("x.pcapng", Form.PCAPNG).request(CaptureTarget(("web-0",))).duration is None


def test_a_token_from_a_file(tmp_path: Path) -> None:
    """A token from a file lacks the line's end."""
    path = tmp_path / "token"
    path.write_text("abc.def-ghi\n")
    assert read_token(path) == "abc.def-ghi"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no token"),
        (b" \n", "no token"),
        ("schlüssel".encode(), "characters that are not allowed in a token"),
        (b"abc\r\nX-Header: evil", "characters that are not allowed in a token"),
        (b"abc\x00", "characters that are not allowed in a token"),
        (b"\xff\xfe", "it is not text"),
    ],
)
def test_no_token(content: bytes, words: str, tmp_path: Path) -> None:
    """A token that cannot be a header is refused without being shown."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(UsageProblem, match=words) as refused:
        read_token(path)
    assert "abc" not in str(refused.value)
