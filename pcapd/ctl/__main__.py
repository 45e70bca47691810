"""``python -m pcapd.ctl``, and the start of the one-file client that bin/build-client makes."""

from __future__ import annotations

import contextlib
import signal
import sys
from functools import partial
from typing import Callable, Iterator

__all__ = ["start"]


def start() -> None:
    """Run the command or the plugin; always raises `SystemExit`."""
    with _interrupted_in_silence():
        run = _entry()
    run()


def _entry() -> Callable[[], None]:
    """Import what the command line asks for: a command, or the cf CLI plugin."""
    arguments = sys.argv[1:]
    named = arguments[:1] and arguments[0].startswith("--cf-plugin=")
    if len(arguments) > 1 and (named or _is_port(arguments[0])):
        from pcapd.ctl.cfplugin.command import start as start_plugin

        return partial(start_plugin, arguments)
    from pcapd.ctl.main import main

    return main


@contextlib.contextmanager
def _interrupted_in_silence() -> Iterator[None]:
    """Let Ctrl-C end the process without a message: nothing has started yet."""
    before = signal.getsignal(signal.SIGINT)
    ours = before in (signal.default_int_handler, signal.SIG_DFL)
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_port(word: str) -> bool:
    """The cf CLI starts its plugins with the port of its RPC server; no command of ours is a number."""
    return word.isascii() and word.isdigit() and len(word) <= 5 and 0 < int(word) < 65536


if __name__ == "__main__":
    start()
