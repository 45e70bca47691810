"""``pcapctl align``: corrects the times of a capture to one clock."""

from __future__ import annotations

import sys

import click

from pcapd.ctl.commands.arguments import files

__all__ = ["align"]


@click.command(
    epilog="\b\nExamples:\n"
    "  pcapctl hosts web-0 web-1 --output both.pcapng --duration 30s\n"
    "  pcapctl align both.pcapng aligned.pcapng\n"
    "    web-0:eth0: unchanged; the others follow its clock\n"
    "    web-1:eth0: moved by -212.041 ms, correct to 0.032 ms, drift 3.1 ppm: from its packets\n"
    "  wireshark aligned.pcapng\n"
)
@click.argument("source", metavar="IN", shell_complete=files)
@click.argument("target", metavar="OUT", shell_complete=files)
@click.option("--force", is_flag=True, help="Overwrite OUT.")
def align(source: str, target: str, force: bool) -> None:
    """Copy a capture with corrected times, so that no packet arrives before it was sent.

    IN is a pcapng file with several interfaces.  The offset between the clocks of two machines
    is computed from the packets that both saw, in both directions; without such packets, the
    offset that was measured at the start of the capture is used.  Only the times change, and
    with them the order of the packets.  OUT describes the change at each interface.
    """
    from pcapd.ctl.display.align import align as write

    for line in write(source, target, force=force):
        print(line, file=sys.stderr)
