"""``pcapctl flows``: the results of `pcapd.analysis.flows`, as text and as JSON."""

from __future__ import annotations

import gzip
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Sequence, Tuple, cast

from pcapd.analysis.flows import Flows, Hop
from pcapd.ctl.display.decode import ends_of
from pcapd.ctl.display.text import escape, many
from pcapd.errors import PcapdError
from pcapd.packet.flow import FlowKey
from pcapd.savefile.reader import BadFile, read_rows

__all__ = ["as_event", "as_line", "read", "totals", "worst_first"]

_GZIP = b"\x1f\x8b"  # RFC 1952
#: Number of pairs of places whose totals are shown.
_PAIRS_MAX = 20
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


def read(names: Sequence[str]) -> Flows:
    """Read files (``-`` is standard input) as one capture.

    Raises:
        PcapdError: A file cannot be read, or is not pcapng.
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
                yield from (part.rows for part in read_rows(_uncompressed(file), flows.place))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PcapdError(f"{name} is incomplete: {error}") from error
    except OSError as error:
        raise PcapdError(f"cannot read {name}: {error.strerror}") from error
    except BadFile as error:
        raise PcapdError(f"{name}: {error.message}", error.hint) from error


def _uncompressed(file: BinaryIO) -> BinaryIO:
    """The file, decompressed if it is gzip."""
    compressed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if compressed else file


def worst_first(hops: Iterable[Hop]) -> List[Hop]:
    """The hops with the most losses first, and of equal ones the largest."""
    return sorted(hops, key=lambda hop: (-(hop.lost or 0), -hop.seen_a - hop.seen_b))


def totals(flows: Flows, hops: Sequence[Hop]) -> List[str]:
    """Lines with the totals of all flows, then of each pair of places, the worst first."""
    pairs: Dict[Tuple[str, str], List[Hop]] = {}
    for hop in hops:
        if hop.b:
            pairs.setdefault((hop.a, hop.b), []).append(hop)
    count = len({hop.flow for hop in hops})
    lost = sum(hop.lost or 0 for hop in hops)
    lines = [
        f"{many(flows.packets, 'packet')}, {many(count, 'flow')}, {lost or 'none'} lost between two places"
    ]
    sums = {ends: sum(hop.lost or 0 for hop in between) for ends, between in pairs.items()}
    for (a, b), between in sorted(pairs.items(), key=lambda pair: -sums[pair[0]])[:_PAIRS_MAX]:
        counts = f"{many(len(between), 'flow')}, {many(sum(hop.seen_a for hop in between), 'packet')}"
        lines.append(escape(f"{a} -> {b}: {counts}, {sums[a, b]} lost"))
    return lines


def as_line(hop: Hop) -> str:
    """The hop as a line of text, escaped for a terminal."""
    source, destination, protocol = _ends(hop.flow)
    text = f"{source} > {destination} {protocol}: {hop.a} {hop.seen_a}"
    if hop.delays_us is None:
        return escape(f"{text}, seen nowhere else")
    text += f" -> {hop.b} {hop.seen_b}"
    least, median, greatest = (f"{delay / 1000:.3f}" for delay in hop.delays_us)
    text += f", delay {least}/{median}/{greatest} ms, {hop.lost} lost"
    only = hop.seen_b - hop.both
    return escape(f"{text}, {only} only there" if only else text)


def as_event(hop: Hop) -> Dict[str, Any]:
    """The hop as JSON values."""
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
