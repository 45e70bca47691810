"""Into how many files a capture goes, and where else its packets go: options and their checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Optional, Tuple

from pcapd.savefile.form import Form

__all__ = ["FileOptions", "Payload", "Rotation", "parse_place", "part_name"]

#: Characters of an instance's name in a file's name; a path's part has 255 bytes.
_INSTANCE_MAX = 100


@dataclass(frozen=True)
class Rotation:
    """When a file ends and the next one begins.

    Attributes:
        size: Bytes of a file, its closing statistics aside.
        time: Seconds of a file.
        files: Newest files that are kept; None keeps all.
    """

    size: Optional[int] = None
    time: Optional[float] = None
    files: Optional[int] = None

    def __bool__(self) -> bool:
        return self.size is not None or self.time is not None


class Payload(Enum):
    """How a packet is printed behind its link header, as tcpdump's ``-A`` and ``-X`` do."""

    NONE = auto()
    TEXT = auto()
    HEX = auto()


@dataclass(frozen=True)
class FileOptions:
    """See the module.

    Attributes:
        split: One file per instance.
        serve: Host and port where readers may connect.
        print: A line per packet, to standard output.
        packet_ids: The same packet has the same number wherever it was seen.
        dedupe: Only its first sighting is kept.
        explain: The files are explained at the end.
        payload: What is printed of a packet besides its line.
    """

    rotation: Rotation = Rotation()
    split: bool = False
    serve: Optional[Tuple[str, int]] = None
    print: bool = False
    packet_ids: bool = False
    dedupe: bool = False
    explain: bool = False
    payload: Payload = Payload.NONE

    @property
    def several(self) -> bool:
        """There may be more than one file."""
        return bool(self.rotation) or self.split

    @staticmethod
    def of(given: Any) -> FileOptions:
        """From the command line's options by their names."""
        size, time = given["rotate_size"] or given["rotate_megabytes"], given["rotate_time"]
        ring = given["files_wanted"] if size or not time else None  # else it ends the capture
        payload = Payload.HEX if given["hex"] else Payload.TEXT if given["ascii"] else Payload.NONE
        return FileOptions(
            Rotation(size, time, given["rotate_files"] or ring),
            given["split_by"] is not None,
            given["serve"],
            given["print"] or payload is not Payload.NONE,
            given["packet_ids"] or given["dedupe"],
            given["dedupe"],
            given["explain"],
            payload,
        )

    @property
    def elsewhere(self) -> bool:
        """The packets go somewhere, also without a file."""
        return self.print or self.serve is not None

    def problem(self, output: str, form: Form) -> str:
        """What cannot be, in words; empty when all can.

        Args:
            output: As in `pcapd.ctl.options.CaptureOptions`.
            form: Likewise.
        """
        several = "--split-by" if self.split else "rotation"
        numbers = "--dedupe" if self.dedupe else "--packet-ids"
        rules = (
            (
                self.rotation.files is not None and not self.rotation,
                "--rotate-files needs --rotate-size or --rotate-time: they say when a file is full",
            ),
            (
                self.several and output == "-",
                f"{several} needs files, and - is standard output: name a file with --output",
            ),
            (
                self.several and not output,
                f"{several} needs files, and there is none: name a file with --output",
            ),
            (
                self.explain and output in ("", "-"),
                "--explain reads the file at the end, and there is none: name a file with --output",
            ),
            (
                self.print and output == "-",
                "--print writes to standard output, and so would --output -: name a file",
            ),
            (
                self.print and form is not Form.PCAPNG,
                "--print needs pcapng, which says where a packet is from: name a .pcapng file",
            ),
            (
                self.packet_ids and form is not Form.PCAPNG,
                f"{numbers} needs pcapng, which says where a packet is from: name a .pcapng file",
            ),
            (
                self.serve is not None and self.split,
                "--serve has one stream for all instances: not with --split-by",
            ),
        )
        return next((words for wrong, words in rules if wrong), "")


def part_name(name: str, instance: str = "", number: int = 0, time: str = "") -> str:
    """The name of one of several files, such as ``web_myapp_0_00001_20260131T120000Z.pcapng``.

    Args:
        name: As given for all of them; its suffix stays at the end.
        instance: Whose packets it holds.  May come from the network: what is not
            harmless in a file's name is replaced.
        number: Its place among them, from 1 on; 0 when there is one only.
        time: When it was begun, with its number.
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
    """Host and port of ``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT``, which is on 127.0.0.1.

    Raises:
        ValueError: It is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("needs brackets around an IPv6 address, as in [::1]:57012")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise ValueError("is no address, such as 127.0.0.1:57012")
    return host, int(port)
