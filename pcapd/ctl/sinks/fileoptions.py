"""Options for the files and the other outputs of a capture, and their checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Optional, Tuple

from pcapd.savefile.form import Form

__all__ = ["FileOptions", "Payload", "Rotation", "parse_place", "part_name"]

#: Characters of an instance's name in a file name, which is limited to 255 bytes.
_INSTANCE_MAX = 100


@dataclass(frozen=True)
class Rotation:
    """When a file ends and the next one begins.

    Attributes:
        size: Bytes of a file, without its closing statistics.
        time: Seconds of a file.
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
        serve: Host and port for TCP readers.
        print: Print a line per packet to standard output.
        packet_ids: Give a packet the same number wherever it was seen.
        dedupe: Keep only the first sighting of a packet.
        align: Correct the times of packets by the clock offsets that are known when the capture starts.
        explain: Explain the files at the end.
        payload: How to print the packet's bytes.
    """

    rotation: Rotation = Rotation()
    split: bool = False
    serve: Optional[Tuple[str, int]] = None
    print: bool = False
    packet_ids: bool = False
    dedupe: bool = False
    align: bool = False
    explain: bool = False
    payload: Payload = Payload.NONE

    @property
    def several(self) -> bool:
        """Whether there may be more than one file."""
        return bool(self.rotation) or self.split

    @staticmethod
    def of(given: Any) -> FileOptions:
        """Create the options from the command line's, by name."""
        size, time = given["rotate_size"] or given["rotate_megabytes"], given["rotate_time"]
        ring = given["files_wanted"] if size or not time else None  # otherwise it limits the capture
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
            payload,
        )

    @property
    def elsewhere(self) -> bool:
        """Whether there is another output than a file."""
        return self.print or self.serve is not None

    def problem(self, output: str, form: Form) -> str:
        """A message about options that exclude each other; empty if there are none.

        Args:
            output: As in `pcapd.ctl.options.CaptureOptions`.
            form: Likewise.
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
                self.explain and output in ("", "-"),
                "--explain reads the file at the end: name a file with --output",
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
        name: The name given for all of them; its suffix stays at the end.
        instance: The instance of its packets.  The name may come from the network:
            characters that are not harmless in a file name are replaced.
        number: Its number, from 1 on; 0 if there is only one.
        time: The time of its start, if it has a number.
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
