"""What far sides say: the counters of each program and version, times, problems and remedies."""

from __future__ import annotations

from typing import Optional

import pytest

from pcapd.ctl.ssh.farside import MARK
from pcapd.ctl.ssh.said import Counters, Said, Stderr, clock_us, problem_of

CHECK = "ssh web-0 true"

TCPDUMP_499 = """tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes
1205 packets captured
1210 packets received by filter
5 packets dropped by kernel
"""
TCPDUMP_49 = """tcpdump: listening on any, link-type LINUX_SLL (Linux cooked v1), capture size 262144 bytes
1 packet captured
1 packet received by filter
0 packets dropped by kernel
7 packets dropped by interface
"""
TCPDUMP_5 = """tcpdump: WARNING: any: That device doesn't support promiscuous mode
(Promiscuous mode not supported on the "any" device)
tcpdump: listening on any, link-type LINUX_SLL2 (Linux cooked v2), snapshot length 262144 bytes
12 packets captured
12 packets received by filter
0 packets dropped by kernel
"""
TCPDUMP_USR1 = "tcpdump: 3 packets captured, 8 packets received by filter, 2 packets dropped by kernel\n"
TCPDUMP_USR1_INTERFACE = (
    "tcpdump: 3 packets captured, 8 packets received by filter, 2 packets dropped by kernel, "
    "1 packet dropped by interface\n"
)
TCPDUMP_MACOS = """tcpdump: data link type PKTAP
tcpdump: listening on en0, link-type EN10MB (Ethernet), snapshot length 524288 bytes
40 packets captured
61 packets received by filter
0 packets dropped by kernel
"""
DUMPCAP_4 = """Capturing on 'eth0'
File: -
Packets captured: 20
Packets received/dropped on interface 'eth0': 20/3 (pcap:2/dumpcap:1/flushed:0/ps_ifdrop:4) (87.0%)
"""
DUMPCAP_3 = DUMPCAP_4.replace("File: -\n", "").replace("\n", "\r\n")


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("text", "counters"),
    [
        (TCPDUMP_499, Counters(1205, 5, 0)),
        (TCPDUMP_49, Counters(1, 0, 7)),
        (TCPDUMP_5, Counters(12, 0, 0)),
        (TCPDUMP_USR1, Counters(3, 2, 0)),
        (TCPDUMP_USR1_INTERFACE, Counters(3, 2, 1)),
        (TCPDUMP_USR1 + TCPDUMP_499, Counters(1205, 5, 0)),
        (TCPDUMP_MACOS, Counters(40, 0, 0)),
        (DUMPCAP_4, Counters(20, 3, 4)),
        (DUMPCAP_3, Counters(20, 3, 4)),
        # Not all of them: the program was killed, or the connection was lost.
        (TCPDUMP_499[: TCPDUMP_499.index("5 packets")], None),
        (DUMPCAP_4[: DUMPCAP_4.index("Packets received")], None),
        # Too large to be true.
        (f"{10**18} packets captured\n0 packets dropped by kernel\n", None),
        (f"1 packet captured\n{10**40} packets dropped by kernel\n", None),
        (DUMPCAP_4.replace("captured: 20", f"captured: {10**18}"), None),
        (f"{10**18 - 1} packets captured\n1 packet dropped by kernel\n", Counters(10**18 - 1, 1, 0)),
    ],
)
def test_counters(text: str, counters: Optional[Counters], size: int) -> None:
    """Counters are found however the text is cut, and are unknown where one is missing."""
    stderr = Stderr()
    data = text.encode()
    for start in range(0, len(data), size):
        assert stderr.feed(data[start : start + size]) == []
    stderr.finish()
    assert stderr.counters == counters


def test_lines_of_the_scripts() -> None:
    """Only lines that begin with the mark are the scripts'; the last one may lack its newline."""
    stderr = Stderr()
    said = stderr.feed(f"motd\n{MARK} hello 22\r\n x {MARK} end\n{MARK}\n{MARK}end\n\n".encode())
    assert said == [Said("hello", ("22",))]
    assert stderr.feed(f"{MARK} end".encode()) == []
    assert stderr.finish() == [Said("end", ())]


def test_little_is_kept() -> None:
    """Of endless lines only the last few are kept, and of an endless line only its beginning."""
    stderr = Stderr()
    for number in range(1000):
        stderr.feed(f"line {number}\n".encode())
    assert stderr.kept == [f"line {number}" for number in range(992, 1000)]
    for _ in range(1000):
        stderr.feed(b"x" * 65536)
    assert len(stderr._rest) <= 4096
    stderr.feed(b"\n")
    assert len(stderr.last) <= 4096


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1700000000.123456789", (1_700_000_000_123_456, True)),
        ("1700000000.123456", (1_700_000_000_123_456, True)),
        ("1700000000,5", (1_700_000_000_500_000, True)),
        ("1700000000.N", (1_700_000_000_000_000, False)),
        ("1700000000", (1_700_000_000_000_000, False)),
        ("%s.%N", (None, False)),
        ("", (None, False)),
        ("-1.5", (None, False)),
    ],
)
def test_times(text: str, time: tuple[Optional[int], bool]) -> None:
    """Times of GNU date, of bash in a locale with a comma, and of a busybox or macOS without fractions."""
    assert clock_us(text) == time


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ("Host key verification failed.", "Host key verification failed.", "connect once with: "),
        ("alice@web-0: Permission denied (publickey,password).", "alice@web-0: Permission denied", CHECK),
        (
            "ssh: Could not resolve hostname web-0: Name or service not known",
            "Could not resolve",
            "check the",
        ),
        ("ssh: connect to host web-0 port 22: Connection refused", "connect to host", "is sshd running"),
        ("tcpdump: eth7: No such device exists", "eth7: No such device", "-D lists"),
        ("tcpdump: en7: BIOCSETIF failed: Device not configured", "en7: BIOCSETIF failed", ""),
        ('dumpcap: There is no device named "eth7".\nmore', "more", ""),
        ("tcpdump: can't parse filter expression: syntax error", "can't parse filter", "check the filter"),
        ("sh: 1: Bad substitution\r", "sh: 1: Bad substitution", ""),
        ("", "", ""),
    ],
)
def test_problems(lines: str, message: str, hint: str) -> None:
    """The line that explains a failure is found, without the program's name, and with its remedy."""
    stderr = Stderr()
    stderr.feed(f"Warning: Permanently added 'web-0' to the list of known hosts.\n{lines}\n".encode())
    said, remedy = problem_of(CHECK, stderr.kept)
    assert said.startswith(message) and hint in remedy and bool(said) is bool(message)


def test_a_key_that_changed() -> None:
    """The banner about a changed host key is recognised, although it is longer than what is kept."""
    stderr = Stderr()
    banner = ["@" * 59, "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", "@" * 59]
    stderr.feed("\n".join([*banner, *map(str, range(12)), "Host key verification failed.", ""]).encode())
    assert stderr.key_changed and not any("HAS CHANGED" in line for line in stderr.kept)
