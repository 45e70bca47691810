"""``cf-pcap`` of diego-release, as a program: what it accepts, writes, logs and excludes.

Follows its ``pcap.go``: Go's flags, a classic pcap on stdout with one write for each packet, a
log in the format of log/slog on stderr, its own filter on ``lo`` and ``eth0``.  It stops well on
SIGINT only, even where SIGINT was ignored when it started, and prints no statistics.

Environment: ``CF_INSTANCE_PORTS`` as in a container; ``DOUBLE_STOP_SECONDS``, how long it takes
to stop (seconds were seen).
"""

from __future__ import annotations

import datetime
import json
import os
import select
import signal
import struct
import sys
import time
from typing import Any, NoReturn

import pcapy

DEFAULTS = {"interface": "", "snaplen": "65535", "filter": "", "v": "false"}
#: Nanoseconds are what pcapy does not give; cf-pcap writes microseconds too.
HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")


def log(level: str, message: str, **values: str) -> None:
    """One line of log/slog's text handler."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    words = [f"time={now.replace('+00:00', 'Z')}", f"level={level}", f"msg={quoted(message)}"]
    words += [f"{name}={quoted(value)}" for name, value in values.items()]
    print(*words, file=sys.stderr, flush=True)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\n') else text


def fail(message: str, **values: str) -> NoReturn:
    log("ERROR", message, **values)
    sys.exit(1)


def flags(words: list[str]) -> dict[str, str]:
    """Go's flag.Parse: one or two hyphens, and a value behind = or in the next word."""
    found = dict(DEFAULTS)
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        if name not in DEFAULTS:
            print(f"flag provided but not defined: -{name}\nUsage of cf-pcap:", file=sys.stderr)
            sys.exit(2)
        if not equals and name != "v":
            if not words:
                print(f"flag needs an argument: -{name}", file=sys.stderr)
                sys.exit(2)
            value = words.pop(0)
        found[name] = value
    return found


def own_filter(interface: str) -> str:
    """What keeps the ssh session out, as far as cf-pcap knows it: nothing on other interfaces."""
    if interface == "lo":
        return "not tcp port 2222"
    if interface == "eth0":
        for port in json.loads(os.environ.get("CF_INSTANCE_PORTS", "[]")):
            if port.get("internal") == 2222:
                return f"not tcp port {port.get('internal_tls_proxy', 0)}"
    return ""


def open_capture(interface: str, snaplen: int, filter_text: str) -> Any:
    """Open the interface, with both filters."""
    try:
        reader = pcapy.open_live(interface, snaplen, 1, 10)
    except pcapy.PcapError as error:
        fail("failed to set up capture", error=f"failed to open device {interface}: {interface}: {error}")
    own = own_filter(interface)
    if not own:
        log("WARN", "failed to determine default filter, capture may include SSH session")
    elif filter_text:
        filter_text = f"({own}) and ({filter_text})"
        log("INFO", "adjusted filter to avoid capturing SSH session", filter=filter_text)
    else:
        filter_text = own
        log("INFO", "set filter to avoid capturing SSH session", filter=filter_text)
    try:
        reader.setfilter(filter_text)
    except pcapy.PcapError as error:
        fail("failed to set up capture", error=f"failed to set BPF filter '{filter_text}': {error}")
    reader.setnonblock(1)
    return reader


def passed_on(reader: Any) -> int:
    """Write what has been captured, each packet at once; returns the number of packets."""
    count = 0
    while (taken := reader.next())[0] is not None:
        head, data = taken
        os.write(1, RECORD.pack(*head.getts(), len(data), head.getlen()) + data)
        count += 1
    return count


def main() -> int:
    """Capture until SIGINT."""
    given = flags(sys.argv[1:])
    if not given["interface"]:
        fail("interface flag is required")
    reader = open_capture(given["interface"], int(given["snaplen"]), given["filter"])
    stop_at = []
    patience = float(os.environ.get("DOUBLE_STOP_SECONDS", "0"))
    signal.signal(signal.SIGINT, lambda *_: stop_at.append(time.monotonic() + patience))
    os.write(1, HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, int(given["snaplen"]), reader.datalink()))
    told = False
    while not stop_at or time.monotonic() < stop_at[0]:
        if not passed_on(reader):
            select.select([reader.getfd()], [], [], 0.02)
        if stop_at and not told:
            told = True
            log("INFO", "received signal, stopping capture", signal="interrupt")
    passed_on(reader)
    log("INFO", "stopped capture")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
