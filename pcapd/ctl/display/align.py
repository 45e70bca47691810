"""``pcapctl align``: compares the clocks of a file's interfaces, and writes it with corrected times."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import BinaryIO, Iterator, List

from pcapd.analysis.world import Place, World
from pcapd.ctl.display.explain import explain
from pcapd.ctl.display.text import escape
from pcapd.ctl.options import UsageProblem
from pcapd.errors import PcapdError
from pcapd.savefile.blocks import BadFile
from pcapd.savefile.shift import Clock, shifted

__all__ = ["align"]


def align(source: str, target: str, *, force: bool) -> List[str]:
    """Write `target`, a copy of `source` with corrected times, which only its owner may read.

    Returns:
        A line about each interface.

    Raises:
        UsageProblem: One of the names cannot be used, or `target` exists already.
        PcapdError: `source` cannot be read, has only one interface, or `target` cannot be written.
    """
    path = Path(target)
    _check_names(source, target, path, force=force)
    world = explain([source]).world
    if any(place.deduped for place in world.places):
        raise PcapdError(
            f"duplicates were left out of {source}: no packet in it shows two clocks",
            "capture without --dedupe",
        )
    if len(world.places) < 2:
        raise PcapdError(
            f"{source} has only one interface: there is no other clock to compare with",
            "capture several instances into one file",
        )
    lines = [_line(world, place) for place in world.places]
    clocks = [Clock(partial(_offset, world, place.number), line) for place, line in zip(world.places, lines)]
    try:
        _write(path, shifted(partial(_open, source), clocks))
    except OSError as error:
        raise PcapdError(f"cannot write {target}: {error.strerror}") from error
    except BadFile as error:
        raise PcapdError(f"cannot align {source}: {error.message}", error.hint) from error
    return [f"{escape(place.name)}: {line}" for place, line in zip(world.places, lines)]


def _check_names(source: str, target: str, path: Path, *, force: bool) -> None:
    if "-" in (source, target):
        raise UsageProblem("align reads IN several times, so it needs files", "name two files")
    if path.exists():
        if not path.is_file():
            raise UsageProblem(f"{target} is not a regular file", "use another name")
        if Path(source).exists() and path.samefile(source):
            raise UsageProblem(f"{target} is the input file", "use another name")
        if not force:
            raise UsageProblem(f"{target} already exists", "use another name, or --force")


def _open(name: str) -> BinaryIO:
    return Path(name).open("rb")


def _write(path: Path, blocks: Iterator[bytes]) -> None:
    """Write a file of mode 0600; an existing file is replaced only when the new one is complete."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(blocks)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _offset(world: World, place: int, us: int) -> int:
    return us - world.aligned(place, us)


def _line(world: World, place: Place) -> str:
    """The line about the change at an interface."""
    if place.name == world.reference:
        return "unchanged; the others follow its clock"
    if place.clock is not None:
        clock = place.clock
        return (
            f"moved by {-clock.offset_us / 1000:+.3f} ms, correct to {clock.error_us / 1000:.3f} ms, "
            f"drift {clock.drift * 1e6:.1f} ppm: from its packets"
        )
    if place.known_offset is not None:
        offset, error = place.known_offset
        within = "" if error is None else f", correct to {error / 1000:.3f} ms"
        return f"moved by {-offset / 1000:+.3f} ms{within}: from the offset at the start of the capture"
    return "unchanged; no other interface saw its packets"
