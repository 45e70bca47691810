"""``pcapctl recording``: one recording."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional

import click

from pcapd.ctl.commands.arguments import STATUS_TABLE, contents_option, files, force_option, login_options
from pcapd.ctl.commands.capturing import login_of
from pcapd.ctl.commands.quantities import Quantity, parse_time
from pcapd.ctl.display.text import escape

__all__ = ["recording"]

_SECONDS = Quantity("duration", parse_time)


@click.group()
def recording() -> None:
    """Show, stop, clip, fetch or delete a recording.

    ID is the id of a recording, or its beginning.
    """


@recording.command()
@click.argument("id", metavar="ID")
@click.option(
    "--new-hook",
    is_flag=True,
    help="Make a new key for an alert manager, which can only make clips of this recording; it is shown "
    "once, and the older key is not valid any more.",
)
@login_options
def show(id: str, new_hook: bool, **given: Any) -> None:
    """Show all that is known of a recording, with its clips."""
    from pcapd.ctl.recordings import calls
    from pcapd.ctl.recordings.text import described

    access = login_of(given).access()
    found = calls.show(access, calls.find(access, id))
    hook = calls.hook(access, found["id"]) if new_hook else None
    if given["json"]:
        print(json.dumps({**found, "hook": hook} if hook else found))
        return
    lines = described(found)
    if hook is not None:
        lines += [f"hook:       POST {escape(str(hook['url']))}", f"key:        {escape(str(hook['key']))}"]
    print("\n".join(lines))


@recording.command()
@click.argument("id", metavar="ID")
@login_options
def stop(id: str, **given: Any) -> None:
    """End a recording in good order; what was recorded is kept."""
    from pcapd.ctl.recordings import calls

    access = login_of(given).access()
    found = calls.stop(access, calls.find(access, id))
    _say(found, f"{escape(str(found['id']))} ends", given)


@recording.command()
@click.argument("id", metavar="ID")
@click.option("--before", type=_SECONDS, metavar="2m", help="How much before now.  [default: 2m]")
@click.option("--after", type=_SECONDS, metavar="30s", help="How much after now.  [default: 30s]")
@click.option("--reason", metavar="TEXT", help="Why, shown with the clip.")
@login_options
def clip(
    id: str, before: Optional[float], after: Optional[float], reason: Optional[str], **given: Any
) -> None:
    """Keep for good what is around this moment, although the ring goes on."""
    from pcapd.ctl.recordings import calls
    from pcapd.ctl.recordings.ordering import seconds

    access = login_of(given).access()
    whole = calls.find(access, id)
    made = calls.clip(access, whole, seconds(before), seconds(after), reason)
    number = made.get("number")
    said = "is made, when what comes after now is stored" if made.get("state") == "open" else "is made"
    text = f"clip {number} of {escape(whole)} {said}" if number is not None else "the clip is made"
    _say(made, text, given)


@recording.command()
@click.argument("id", metavar="ID")
@login_options
def delete(id: str, **given: Any) -> None:
    """Delete a recording with its packets and clips; it is ended first if it runs."""
    from pcapd.ctl.recordings import calls

    access = login_of(given).access()
    whole = calls.find(access, id)
    calls.delete(access, whole)
    _say({"deleted": whole}, f"{escape(whole)} is deleted", given)


@recording.command(
    epilog="\b\nExamples:\n"
    "  pcapctl recording fetch 5f0c2b7e --last 5m\n"
    "  pcapctl recording fetch 5f0c2b7e --from 03:00 --to 03:10 -o night.pcapng --explain\n"
    "  pcapctl recording fetch 5f0c2b7e --clip 1\n"
    "  pcapctl recording fetch 5f0c2b7e --tail -o - | wireshark -k -i -\n\n" + STATUS_TABLE
)
@click.argument("id", metavar="ID")
@click.option("--last", type=_SECONDS, metavar="5m", help="The last minutes.")
@click.option(
    "--from",
    "begin",
    metavar="T",
    help="From this time: 2026-11-29T03:00:00Z, or 03:00 for the last time it was three o'clock here.",
)
@click.option("--to", "end", metavar="T", help="Up to this time.")
@click.option("--clip", type=click.IntRange(1), metavar="N", help="The clip of this number.")
@click.option("--tail", is_flag=True, help="Go on while it records; Ctrl-C ends the file.")
@click.option(
    "--output",
    "-o",
    "-w",
    metavar="FILE|-",
    shell_complete=files,
    help="Output file; - is standard output, NAME.gz is compressed.  "
    "[default: recording-ID-YYYYMMDDTHHMMSSZ.pcapng]",
)
@force_option
@click.option("--explain", is_flag=True, help="Explain what went wrong in the traffic, at the end.")
@contents_option
@click.option("--quiet", "-q", is_flag=True, help="Print only problems.")
@login_options
def fetch(id: str, **given: Any) -> None:
    """Fetch packets of a recording as one pcapng file, also while it records.

    A fetch that is cut goes on by itself where it was cut.
    """
    from pcapd.ctl.recordings.saving import FetchOptions
    from pcapd.ctl.recordings.saving import fetch as save

    options = FetchOptions(
        last=given["last"],
        begin=given["begin"],
        end=given["end"],
        clip=given["clip"],
        output=given["output"],
        tail=given["tail"],
        force=given["force"],
        explain=given["explain"],
        contents=given["show_contents"],
        json=given["json"],
        quiet=given["quiet"],
    )
    options.check()
    raise SystemExit(save(login_of(given).access, id, options))


def _say(values: Dict[str, Any], text: str, given: Any) -> None:
    print(json.dumps(values) if given["json"] else text)
