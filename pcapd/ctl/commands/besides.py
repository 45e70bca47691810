"""The options of captures that the api records besides, and of rings."""

from __future__ import annotations

import math
from typing import Any, Final, Optional

import click

from pcapd.ctl.commands.quantities import Quantity, parse_time, size_with_unit
from pcapd.ctl.options import UsageProblem
from pcapd.wire import Besides

__all__ = ["RESUMABLE", "RING", "besides_of", "refuse_resumable"]

#: The options of a recording that is a ring.
RING: Final = (
    click.option(
        "--keep",
        type=Quantity("duration", parse_time),
        metavar="15m",
        help="Record as a ring: only the packets of this time are kept, older ones are deleted.  "
        "[default: all are kept]",
    ),
    click.option(
        "--keep-bytes",
        type=Quantity("size", size_with_unit),
        metavar="500MB",
        help="Record as a ring: only the newest packets are kept, up to this size.  [default: all are kept]",
    ),
)
#: The options of a capture that the api records besides.
RESUMABLE: Final = (
    click.option(
        "--resumable",
        is_flag=True,
        help="Let the api record besides: if the connection is lost, the recording goes on until --duration "
        "or the api's limit, and has what the file lacks; the report says how to fetch it.",
    ),
    *RING,
)


def besides_of(given: Any) -> Optional[Besides]:
    """How the api records besides, from the options by name; None if it does not.

    Raises:
        UsageProblem: The options contradict each other.
    """
    keep, keep_bytes = given.get("keep"), given.get("keep_bytes")
    if given.get("resumable"):
        return Besides(None if keep is None else math.ceil(keep), keep_bytes)
    if keep is not None or keep_bytes is not None:
        raise UsageProblem("--keep and --keep-bytes need --resumable", "--rotate-files limits the files here")
    return None


def refuse_resumable(given: Any) -> None:
    """Refuse --resumable where no api captures.

    Raises:
        UsageProblem: The option is given.
    """
    if given["resumable"]:
        raise UsageProblem(
            "--resumable needs the pcap api, which records: not with --via ssh", "leave it out"
        )
