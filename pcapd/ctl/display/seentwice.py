"""After a capture: reports packets that were seen at two places, which other programs take for
retransmissions.

It reads only the beginning of the file, so it takes a moment however long the file is.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

from pcapd.analysis.flows import Flows
from pcapd.ctl.sinks.opening import Sinks
from pcapd.ctl.stream.session import CaptureSession
from pcapd.errors import PcapdError
from pcapd.savefile.form import Form
from pcapd.savefile.reader import read_rows

__all__ = ["Sample", "lines", "look"]

_REMEDY = "--dedupe keeps one of each; for Wireshark: pcapctl wireshark-profile --install"


class Sample(NamedTuple):
    """The beginning of a file.

    Attributes:
        packets: Packets in that part.
        twice: Those of them that are second sightings.
        whole: Whether that part is the whole file.
    """

    packets: int
    twice: int
    whole: bool


def look(path: Path) -> Sample:
    """Count packets in the first part of a pcapng file (`FILE_READ_SIZE`).

    Raises:
        OSError, PcapdError: The file cannot be read.
    """
    flows = Flows()
    with path.open("rb") as file:
        parts = read_rows(file, flows.place)
        first = next(parts, None)
        if first is not None:
            flows.add(first.rows)
        whole = next(parts, None) is None
    return Sample(flows.packets, sum(hop.both for hop in flows.hops()), whole)


def lines(capture: CaptureSession, sinks: Sinks) -> List[str]:
    """A line if the newest file contains packets twice; none for other formats and --packet-ids."""
    kept = sinks.inventory.kept
    places = len(capture.muxer.accounts)
    if places < 2 or not kept or sinks.form is not Form.PCAPNG or capture.muxer.packet_ids is not None:
        return []
    try:
        sample = look(Path(kept[-1].name))
    except (OSError, PcapdError):
        return []  # such as a pipe; the report covers what matters
    if not sample.twice:
        return []
    of = f"{sample.packets}" if sample.whole else f"the first {sample.packets}"
    return [f"{sample.twice} of {of} packets were seen at two places: {_REMEDY}"]
