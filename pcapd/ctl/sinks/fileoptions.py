"""Options for the files and the other outputs of a capture, and their checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Optional, Tuple

from pcapd.savefile.form import Form

__all__ = ["FileOptions", "Payload", "Rotation", "parse_place", "part_name"]

#: Largest number of characters of an instance's name in a file name (limit: 255 bytes).
_INSTANCE_MAX = 100


@dataclass(frozen=True)
class Rotation:
    """Limits at which a file ends and the next one begins, and the number of files.

    Attributes:
        size: Largest size of a file in bytes, without its last statistics; None for no limit.
        time: Longest time of a file in seconds; None for no limit.
        files: Number of newest files to keep; None keeps all.
    """

    size: Optional[int] = None
    time: Optional[float] = None
    files: Optional[int] = None

    def __bool__(self) -> bool:
        return self.size is not None or self.time is not None


class Payload(Enum):
    """How a packet's bytes after the link header are printed, as with tcpdump's ``-A`` and ``-X``."""

    NONE = auto()
    TEXT = auto()
    HEX = auto()


@dataclass(frozen=True)
class FileOptions:
    """See the module.

    Attributes:
        split: Write one file per instance.
        serve: Host and port at which TCP readers can connect; None for no server.
        print: Print a line per packet to standard output.
        packet_ids: Give a packet that was seen at several places the same number at each.
        dedupe: Write a packet that was seen at several places only once.
        align: Correct the times of packets by the clock offsets that are known when the capture starts.
        explain: Explain the capture while it runs and at the end.
        contents: With `explain`, quote contents of requests, see `pcapd.analysis.explanation.Explanation`.
        payload: How to print a packet's bytes.
    """

    rotation: Rotation = Rotation()
    split: bool = False
    serve: Optional[Tuple[str, int]] = None
    print: bool = False
    packet_ids: bool = False
    dedupe: bool = False
    align: bool = False
    explain: bool = False
    contents: bool = False
    payload: Payload = Payload.NONE

    @property
    def several(self) -> bool:
        """Whether there may be more than one file."""
        return bool(self.rotation) or self.split

    @staticmethod
    def of(given: Any) -> FileOptions:
        """Create the options from the values of the command line, by name."""
        size, time = given["rotate_size"] or given["rotate_megabytes"], given["rotate_time"]
        ring = given["files_wanted"] if size or not time else None  # else it limits the capture
        payload = Payload.HEX if given["hex"] else Payload.TEXT if given["ascii"] else Payload.NONE
        return FileOptions(
            Rotation(size, time, given["rotate_files"] or ring),
            given["split_by"] is not None,
            given["serve"],
            given["print"] or payload is not Payload.NONE,
            given["packet_ids"] or given["dedupe"],
            given["dedupe"],
            given["align"],
            given["explain"],
            given["show_contents"],
            payload,
        )

    @property
    def elsewhere(self) -> bool:
        """Whether there is an output that is not a file."""
        return self.print or self.serve is not None

    def problem(self, output: str, form: Form) -> str:
        """A message about options that exclude each other; empty if there are none.

        Args:
            output: See `pcapd.ctl.options.CaptureOptions`.
            form: The file format.
        """
        several = "--split-by" if self.split else "rotation"
        numbers = "--dedupe" if self.dedupe else "--packet-ids"
        rules = (
            (
                self.rotation.files is not None and not self.rotation,
                "--rotate-files needs --rotate-size or --rotate-time, which define when a file is full",
            ),
            (
                self.several and output == "-",
                f"{several} needs files, but - is standard output: name a file with --output",
            ),
            (
                self.several and not output,
                f"{several} needs files: name a file with --output",
            ),
            (
                self.contents and not self.explain,
                "--show-contents needs --explain: it says what the findings may quote",
            ),
            (
                self.print and output == "-",
                "--print and --output - both write to standard output: name a file",
            ),
            (
                self.print and form is not Form.PCAPNG,
                "--print needs pcapng, which records where a packet was captured: name a .pcapng file",
            ),
            (
                self.packet_ids and form is not Form.PCAPNG,
                f"{numbers} needs pcapng, which records where a packet was captured: name a .pcapng file",
            ),
            (
                self.align and form is not Form.PCAPNG,
                "--align needs pcapng, which records what was corrected: name a .pcapng file",
            ),
            (
                self.serve is not None and self.split,
                "--serve has one stream for all instances: it excludes --split-by",
            ),
        )
        return next((message for wrong, message in rules if wrong), "")


def part_name(name: str, instance: str = "", number: int = 0, time: str = "") -> str:
    """The name of one of several files, such as ``web_myapp_0_00001_20260131T120000Z.pcapng``.

    Args:
        name: The name from which all are derived; its suffix remains at the end.
        instance: The instance of the packets; empty for all.  The name may come from the
            network, so unusual characters are replaced.
        number: The number of the file, from 1 on; 0 if there is only one.
        time: The time of the start, used only with a number.
    """
    path = Path(name)
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    stem = path.name[: len(path.name) - len(suffix)]
    if instance:
        stem += "_" + re.sub(r"[^A-Za-z0-9._-]", "_", instance)[:_INSTANCE_MAX]
    if number:
        stem += f"_{number:05d}_{time}"
    return str(path.parent / (stem + suffix))


def parse_place(text: str) -> Tuple[str, int]:
    """Host and port from ``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT`` (on 127.0.0.1).

    Raises:
        ValueError: The text has another form.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("needs brackets around an IPv6 address, as in [::1]:57012")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise ValueError("is not an address, such as 127.0.0.1:57012")
    return host, int(port)
