"""Recordings as lines of text, escaped for a terminal.  Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from pcapd.ctl.display.text import escape, many, natural, quantity, span
from pcapd.ctl.recordings.moments import shown

__all__ = ["as_table", "described", "short", "target"]

_SHORT = 8
_TARGET_MAX = 48
_HEADINGS = ("id", "target", "since", "state", "bytes", "clips")


def short(id: str, others: Sequence[str] = ()) -> str:
    """The beginning of an id that tells it from all others, at least eight characters."""
    for length in range(_SHORT, len(id)):
        if not any(other.startswith(id[:length]) for other in others if other != id):
            return escape(id[:length])
    return escape(id)


def as_table(recordings: Sequence[Dict[str, Any]]) -> List[str]:
    """Recordings as a table, the newest last; with owners if there are several."""
    if not recordings:
        return ["there are no recordings"]
    ids = [str(one.get("id", "")) for one in recordings]
    owners = len({str(one.get("owner")) for one in recordings}) > 1
    rows: List[Tuple[str, ...]] = [(*_HEADINGS, "owner") if owners else _HEADINGS]
    for one in sorted(recordings, key=lambda one: _number(one, "since_us")):
        row = (
            short(str(one.get("id", "")), ids),
            _cut(target(one)),
            shown(one.get("since_us")),
            escape(str(one.get("state", "unknown"))),
            quantity(_number(one, "bytes")),
            str(len(_clips(one))),
        )
        rows.append((*row, escape(str(one.get("owner", "")))) if owners else row)
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def target(recording: Dict[str, Any]) -> str:
    """What is recorded: the names of the instances, or what the user named."""
    names = recording.get("instances")
    asked = recording.get("target")
    if isinstance(names, list) and names:
        return ", ".join(escape(str(name)) for name in sorted(map(str, names), key=natural))
    if isinstance(asked, dict):
        return escape(" ".join(str(asked[key]) for key in ("name", "guid", "type", "groups") if key in asked))
    return ", ".join(escape(str(name)) for name in asked) if isinstance(asked, list) else "-"


def described(recording: Dict[str, Any]) -> List[str]:
    """One recording with all that is known of it, one fact a line."""
    facts = [
        ("recording", escape(str(recording.get("id", "")))),
        ("owner", escape(str(recording.get("owner", "")))),
        ("target", target(recording)),
        ("follows", "instances that restart, move or are added" if recording.get("follow") is True else ""),
        ("interfaces", ", ".join(escape(str(name)) for name in recording.get("interfaces") or ())),
        ("filter", escape(str(recording.get("filter") or ""))),
        ("since", shown(recording.get("since_us"))),
        ("state", escape(str(recording.get("state", "unknown")))),
        ("message", escape(str(recording.get("message") or ""))),
        ("packets", _packets(recording)),
        ("lost", _lost(recording)),
        ("keeps", _kept(recording)),
        ("clips on", _occasion(recording)),
    ]
    lines = [f"{name + ':':<12}{value}" for name, value in facts if value]
    for one in _clips(recording):
        lines.append(f"{'clip:':<12}{_clip(one)}")
        lines += [f"{'':<12}{finding}" for finding in _findings(one)]
    return lines


def _packets(recording: Dict[str, Any]) -> str:
    size = quantity(_number(recording, "bytes"))
    text = f"{many(_number(recording, 'packets'), 'packet')}, {size}"
    if recording.get("first_us") is None:
        return text
    return f"{text}, from {shown(recording['first_us'])} to {shown(recording.get('last_us'))}"


def _lost(recording: Dict[str, Any]) -> str:
    dropped = _number(recording, "dropped")
    return f"{many(dropped, 'packet')}, dropped while capturing" if dropped else ""


def _kept(recording: Dict[str, Any]) -> str:
    seconds, size = _number(recording, "keep"), _number(recording, "keep_bytes")
    limits = ([span(seconds)] if seconds else []) + ([quantity(size)] if size else [])
    deleted = _number(recording, "deleted_packets")
    gone = f"; {many(deleted, 'older packet')} deleted" if deleted else ""
    return f"the last {', at most '.join(limits)}{gone}" if limits else ""


def _occasion(recording: Dict[str, Any]) -> str:
    occasion = recording.get("clip_on")
    if isinstance(occasion, dict):
        return f"a packet that matches {escape(str(occasion.get('filter', '')))}"
    return "a crash" if occasion == "crash" else ""


def _clip(clip: Dict[str, Any]) -> str:
    text = f"{escape(str(clip.get('number', '?')))}, {escape(str(clip.get('reason', '')))}"
    times = f"from {shown(clip.get('first_us'))} to {shown(clip.get('last_us'))}"
    state = clip.get("state", "done")
    more = "" if state == "done" else f" ({escape(str(state))})"
    return f"{text}; {times}, {quantity(_number(clip, 'bytes'))}{more}"


def _findings(clip: Dict[str, Any]) -> List[str]:
    """What was found in a clip, one line for each."""
    findings = clip.get("findings")
    found = [one for one in findings if isinstance(one, dict)] if isinstance(findings, list) else []
    return [escape(f"{one.get('severity', 'note')}: {one.get('summary', '')}") for one in found]


def _clips(recording: Dict[str, Any]) -> List[Dict[str, Any]]:
    clips = recording.get("clips")
    return [clip for clip in clips if isinstance(clip, dict)] if isinstance(clips, list) else []


def _number(values: Dict[str, Any], name: str) -> int:
    """A number from the api; 0 if it is none."""
    value = values.get(name)
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _cut(text: str) -> str:
    return text if len(text) <= _TARGET_MAX else f"{text[: _TARGET_MAX - 1]}…"
