"""``pcapctl flows``: what `pcapd.analysis.flows` found, for people and for scripts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence, Tuple

from pcapd.analysis.flows import Flows, Hop
from pcapd.ctl.display.decode import ends_of
from pcapd.ctl.display.text import escape
from pcapd.errors import PcapdError
from pcapd.packet.flow import FlowKey
from pcapd.savefile.reader import BadFile, read_rows

__all__ = ["as_event", "as_line", "read"]

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


def read(names: Sequence[str]) -> Flows:
    """Read files (``-`` is standard input) as one capture.

    Raises:
        PcapdError: One of them cannot be read, or is no pcapng file.
    """
    flows = Flows()
    flows.read([_rows(name, flows) for name in names])
    return flows


def _rows(name: str, flows: Flows) -> Iterator[bytes]:
    try:
        if name == "-":
            yield from (part.rows for part in read_rows(sys.stdin.buffer, flows.place))
        else:
            with Path(name).open("rb") as file:
                yield from (part.rows for part in read_rows(file, flows.place))
    except OSError as error:
        raise PcapdError(f"cannot read {name}: {error.strerror}") from error
    except BadFile as error:
        raise PcapdError(f"{name}: {error.message}", error.hint) from error


def as_line(hop: Hop) -> str:
    """For people; nothing in it can drive a terminal."""
    source, destination, protocol = _ends(hop.flow)
    words = f"{source} > {destination} {protocol}: {hop.a} {hop.seen_a}"
    if hop.delays_us is None:
        return escape(f"{words}, seen nowhere else")
    words += f" -> {hop.b} {hop.seen_b}"
    least, median, greatest = (f"{delay / 1000:.3f}" for delay in hop.delays_us)
    words += f", delay {least}/{median}/{greatest} ms, {hop.lost} lost"
    only = hop.seen_b - hop.both
    return escape(f"{words}, {only} only there" if only else words)


def as_event(hop: Hop) -> Dict[str, Any]:
    """For scripts."""
    source, destination, protocol = _ends(hop.flow)
    names = ("min", "median", "max")
    return {
        "from": source,
        "to": destination,
        "protocol": protocol,
        "a": {"source": hop.a, "packets": hop.seen_a},
        "b": {"source": hop.b, "packets": hop.seen_b} if hop.b else None,
        "both": hop.both,
        "delay_us": dict(zip(names, hop.delays_us)) if hop.delays_us is not None else None,
        "lost": hop.lost,
    }


def _ends(key: FlowKey) -> Tuple[str, str, str]:
    return (*ends_of(key), _PROTOCOLS.get(key.protocol, f"protocol {key.protocol}"))
