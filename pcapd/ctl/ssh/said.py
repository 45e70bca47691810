"""What the far side says on stderr: lines of the scripts, counters, and problems.  Pure.

tcpdump prints its counters at its end, one to a line, and at each SIGUSR1, in one line
(tcpdump.c, ``info``).  dumpcap prints them at its end (dumpcap.c, ``report_counts`` and
``report_packet_drops``).
"""

from __future__ import annotations

import re
from typing import Dict, Final, List, NamedTuple, Optional, Tuple

from pcapd.ctl.ssh.farside import MARK

__all__ = ["KEY_CHANGED", "PROBLEMS", "Counters", "Said", "Stderr", "clock_us", "problem_of"]

#: Bytes of one line of the far side that are looked at.
_LINE_MAX: Final = 4096
#: Lines that are kept to explain a failure.
_KEPT: Final = 8
_TCPDUMP = re.compile(
    r"(?<!\d)(\d{1,18}) packets? (captured|received by filter|dropped by kernel|dropped by interface)"
)
_DUMPCAP_CAPTURED = re.compile(r"Packets captured: (\d{1,18})(?!\d)")
_DUMPCAP_DROPPED = re.compile(r"\(pcap:(\d{1,18})/dumpcap:(\d{1,18})/flushed:\d+/ps_ifdrop:(\d{1,18})\)")
_CLOCK = re.compile(r"(\d{1,12})[.,](\d{1,9})")
_SECONDS = re.compile(r"\d{1,12}")
#: What sshconnect.c of OpenSSH prints if a host's key is not the known one.
KEY_CHANGED: Final = "REMOTE HOST IDENTIFICATION HAS CHANGED"
#: Lines that explain nothing.
_CHATTER = re.compile(
    r"tcpdump: listening on|Capturing on |File: |Warning: Permanently added|\*\* |"
    r"time=\S+ level=(DEBUG|INFO|WARN) "
)
#: An error of cf-pcap, in the text format of Go's log/slog.
_SLOG = re.compile(r'time=\S+ level=ERROR msg="([^"]*)"(?: error=("(?:[^"\\]|\\.)*"|\S+))?')

_CF_PCAP_OFF: Final = (
    "the operator has not enabled cf-pcap (rep property enable_cf_pcap), or the app runs since before: "
    "cf restart; if that does not help, the operator must recreate the app's cell (diego-release#1117)"
)
#: Messages of the scripts: what is missing, and a remedy.
PROBLEMS: Final[Dict[str, Tuple[str, str]]] = {
    "missing": (
        "there is neither tcpdump nor dumpcap",
        "install one, for example with: apt-get install tcpdump",
    ),
    "denied": (
        "you may not capture there, and sudo does not permit it without a password",
        "see Permission on the host in docs/over-ssh.rst: setcap, or a line in sudoers",
    ),
    "lacking": (
        "the container has no cf-pcap",
        "it needs diego-release 2.130 or later with the rep property enable_cf_pcap: ask the operator; "
        "an app that runs since before the upgrade needs: cf restart",
    ),
    "unscripted": (
        "sudo permits only tcpdump, which cannot be stopped without script(1)",
        "install it: apt-get install bsdutils",
    ),
}
#: Remedies for what ssh says, by a part of its text.
_REMEDIES: Tuple[Tuple[str, str], ...] = (
    ("Host key verification failed", "connect once with: {check}"),
    ("Permission denied", "pcapctl uses your own ssh set-up: check that this works: {check}"),
    ("Could not resolve hostname", "check the name, or give it in ~/.ssh/config"),
    ("Connection refused", "is sshd running there, on this port?"),
    ("Connection timed out", "is the host up, and does it need a jump host (ssh -J)?"),
    ("You don't have permission to perform this capture", _CF_PCAP_OFF),
    ("CAP_NET_RAW may be required", _CF_PCAP_OFF),
    ("You are not authorized to perform", "this needs the role of a space developer; check: {check}"),
    ("Error opening SSH connection", "check: {check}"),
    ("No such device", "-D lists the interfaces; -i any captures all"),
    ("SIOCGIFHWADDR", "-D lists the interfaces; -i any captures all"),
    ("parse filter", "check the filter, for example with: tcpdump -d"),
    ("syntax error", "check the filter, for example with: tcpdump -d"),
)


class Counters(NamedTuple):
    """Counters of the program that captures: numbers of packets.

    Attributes:
        captured: Written to its output.
        dropped_kernel: Dropped because the ring was full.
        dropped_interface: Lost by the interface before the filter.
    """

    captured: int
    dropped_kernel: int
    dropped_interface: int


class Said(NamedTuple):
    """One line of the scripts: the words after `MARK`."""

    word: str
    rest: Tuple[str, ...]


class Stderr:
    """Collects the far side's stderr.

    Attributes:
        key_changed: Whether ssh has said that the host's key is not the known one.
    """

    def __init__(self) -> None:
        self.key_changed = False
        self._rest = b""
        self._kept: List[str] = []
        self._counts: Dict[str, int] = {}

    def feed(self, data: bytes) -> List[Said]:
        """Add bytes; return the scripts' lines in them."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LINE_MAX]
        said = []
        for line in lines:
            text = line[:_LINE_MAX].decode(errors="replace").strip()
            words = text.split()
            if words and words[0] == MARK and len(words) > 1:
                said.append(Said(words[1], tuple(words[2:])))
            elif text:
                self._other(text)
        return said

    def finish(self) -> List[Said]:
        """The stream has ended: also look at a last line without newline."""
        return self.feed(b"\n") if self._rest else []

    def _other(self, text: str) -> None:
        self.key_changed = self.key_changed or KEY_CHANGED in text
        counts = [(name, int(count)) for count, name in _TCPDUMP.findall(text)]
        captured, dropped = _DUMPCAP_CAPTURED.match(text), _DUMPCAP_DROPPED.search(text)
        if captured is not None:
            counts.append(("captured", int(captured[1])))
        if dropped is not None:
            counts.append(("dropped by kernel", int(dropped[1]) + int(dropped[2])))
            counts.append(("dropped by interface", int(dropped[3])))
        self._counts.update(counts)
        if not counts and not _CHATTER.match(text):
            self._kept = [*self._kept[1 - _KEPT :], text]

    @property
    def counters(self) -> Optional[Counters]:
        """The latest counters; None if there are none."""
        counts = self._counts
        if "captured" not in counts or "dropped by kernel" not in counts:
            return None
        dropped = counts["dropped by kernel"], counts.get("dropped by interface", 0)
        return Counters(counts["captured"], *dropped)

    def forget_counters(self) -> None:
        """Drop the counters, so that only later ones count."""
        self._counts.clear()

    @property
    def last(self) -> str:
        """The last line that is neither a script's nor chatter; empty if there is none."""
        return self._kept[-1] if self._kept else ""

    @property
    def kept(self) -> List[str]:
        """The last such lines."""
        return list(self._kept)


def clock_us(text: str) -> Tuple[Optional[int], bool]:
    """The far side's time in microseconds since the epoch, and whether it has a fraction.

    Args:
        text: What ``date +%s.%N`` printed.  Some systems print no digits for ``%N``.
    """
    fine = _CLOCK.fullmatch(text)
    if fine is not None:
        return int(fine[1]) * 1_000_000 + int(fine[2].ljust(6, "0")[:6]), True
    coarse = _SECONDS.match(text)
    return (int(coarse[0]) * 1_000_000, False) if coarse is not None else (None, False)


def problem_of(check: str, lines: List[str], remedies: Tuple[Tuple[str, str], ...] = ()) -> Tuple[str, str]:
    """A message and a hint from the last lines that ssh or the program printed.

    Args:
        check: A command with which the user can check the connection, for the hint.
        remedies: Remedies by a part of ssh's text, which take precedence.
    """
    for text in lines:
        for part, remedy in (*remedies, *_REMEDIES):
            if part in text:
                return _plain(text), remedy.format(check=check)
    return (_plain(lines[-1]) if lines else ""), ""


def _plain(text: str) -> str:
    """A line without the program's name, and without the terminal's characters."""
    logged = _SLOG.match(text)
    if logged is not None:
        text = (logged[2] or logged[1]).strip('"').replace('\\"', '"')
    return re.sub(r"^(ssh|tcpdump|dumpcap): ", "", text).strip("\r ")
