"""The live line on a terminal: per source packets, bytes, rate and drops."""

from __future__ import annotations

import shutil
from typing import Dict, TextIO, Tuple

from pcapd.ctl.text import escape, quantity
from pcapd.savefile.assembly import Account

__all__ = ["Progress"]

_INTERVAL = 0.5  # seconds


class Progress:
    """Rewrites one line.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown_at = 0.0
        self._before: Dict[str, Tuple[float, int]] = {}
        self._visible = False

    def show(self, accounts: Dict[int, Account], now: float) -> None:
        """Show how it stands, at most twice a second."""
        if now - self._shown_at < _INTERVAL or not accounts:
            return
        self._shown_at = now
        line = " | ".join(self._part(account, now) for account in accounts.values())
        width = shutil.get_terminal_size().columns - 1
        if len(line) > width:
            line = line[: width - 1] + "…"
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()
        self._visible = True

    def clear(self) -> None:
        """Make room for other lines."""
        if self._visible:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._visible = False

    def _part(self, account: Account, now: float) -> str:
        then, packets = self._before.get(account.name, (now, account.received))
        rate = (account.received - packets) / (now - then) if now > then else 0.0
        self._before[account.name] = (now, account.received)
        dropped = account.stats.dropped_kernel + account.stats.dropped_interface
        return (
            f"{escape(account.name)} {account.received} pkts {quantity(account.bytes)} "
            f"{rate:.0f}/s {dropped} dropped"
        )
