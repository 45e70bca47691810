"""What fingers that know tcpdump type means the same here."""

from __future__ import annotations

import importlib
import struct
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from pcapd.ctl.display import dump
from pcapd.ctl.main import main
from pcapd.ctl.options import CaptureOptions
from pcapd.ctl.sinks.fileoptions import Payload, Rotation
from pcapd.limits import SNAPLEN_MAX
from pcapd.savefile import pcap
from tests.kit import packets
from tests.kit.lab.readers import require

Capture = Callable[..., CaptureOptions]


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Capture:
    """Runs ``pcapctl hosts`` up to where the capture would begin."""
    monkeypatch.setenv("PCAP_API", "https://pcap.example.com")
    monkeypatch.setenv("PCAP_TOKEN", "token")
    seen: List[CaptureOptions] = []
    module = importlib.import_module("pcapd.ctl.commands.hosts")
    monkeypatch.setattr(module, "run_capture", lambda access, options, wanted: seen.append(options) or 0)

    def run(*words: str) -> CaptureOptions:
        with pytest.raises(SystemExit) as ended:
            main(arguments=["hosts", "web-0", *words])
        assert ended.value.code == 0
        return seen.pop()

    return run


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["-w", "x.pcap"], {"output": "x.pcap"}),
        (["-c", "5", "--", "tcp", "port", "8080"], {"filter": "tcp port 8080", "count": 5}),
        (["--", "not", "port", "22"], {"filter": "not port 22"}),
        (["-n", "-nn", "-U", "-l"], {"filter": ""}),
        (["-nnvi", "lo"], {"interfaces": ("lo",), "verbose": True}),
        (["-s", "0"], {"snaplen": SNAPLEN_MAX}),
        (["-s0"], {"snaplen": SNAPLEN_MAX}),
        (["-i", "eth0,lo", "-i", "eth0"], {"interfaces": ("eth0", "lo")}),
        (["-i", "any"], {"interfaces": ("any",)}),
        (["--duration", "90"], {"duration": 90.0}),
        (["--duration", "1h30m"], {"duration": 5400.0}),
        (["--duration", "1m1500ms"], {"duration": 61.5}),
        (["-G", "60", "-W", "5"], {"duration": 300.0}),
        (["-G", "60", "-W", "5", "--duration", "10"], {"duration": 10.0}),
    ],
)
def test_options(words: List[str], facts: Dict[str, Any], capture: Capture) -> None:
    """Each option is parsed as tcpdump does."""
    options = capture(*words)
    assert {name: getattr(options, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("words", "rotation"),
    [
        (["-C", "5", "-W", "3"], Rotation(size=5_000_000, files=3)),
        (["-C", "64KiB"], Rotation(size=65536)),
        (["-G", "60"], Rotation(time=60.0)),
        (["-C", "1", "-G", "60", "-W", "2"], Rotation(1_000_000, 60.0, 2)),
    ],
)
def test_rotation(words: List[str], rotation: Rotation, capture: Capture) -> None:
    """-C counts millions of bytes, -G seconds, and -W files of a ring."""
    assert capture("-w", "x.pcapng", *words).files.rotation == rotation


@pytest.mark.parametrize(("word", "payload"), [("-A", Payload.TEXT), ("-X", Payload.HEX)])
def test_printing(word: str, payload: Payload, capture: Capture) -> None:
    """-A and -X print, and do not write a file without a name."""
    options = capture(word)
    assert (options.output, options.files.print, options.files.payload) == ("", True, payload)


@pytest.mark.parametrize("word", ["", "90x", "1h30", "30m1h1", "-5", "1h 30m", "٣"])
def test_a_duration_that_is_none(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An invalid duration is refused with an example."""
    with pytest.raises(SystemExit) as ended:
        main(arguments=["hosts", "web-0", f"--duration={word}"])
    assert ended.value.code == 2
    assert "must be a duration such as" in capfd.readouterr().err


def test_two_filters_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """A filter given twice, as option and as arguments, is refused."""
    with pytest.raises(SystemExit) as ended:
        main(arguments=["hosts", "web-0", "--filter", "udp", "--", "tcp"])
    assert ended.value.code == 2
    assert "two filters" in capfd.readouterr().err


def test_dumps_are_those_of_tcpdump(tmp_path: Path) -> None:
    """-A and -X print exactly the characters that tcpdump prints."""
    require("tcpdump")
    payload = b"GET /\x00\xff HTTP/1.1\r\nHost: a\tb\r\n\r\nx\r"
    frame = packets.ethernet(packets.ipv4(packets.tcp(payload), 6))
    path = tmp_path / "x.pcap"
    path.write_bytes(
        pcap.file_header(1, SNAPLEN_MAX) + struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame
    )
    for option, made in (("-X", dump.as_hex(1, frame)), ("-A", dump.as_text(1, frame))):
        said = subprocess.run(
            ["tcpdump", "-nq", option, "-r", str(path)], check=True, capture_output=True
        ).stdout
        assert said.decode("latin-1").partition("\n")[2].rstrip("\n") == made.rstrip("\n")
