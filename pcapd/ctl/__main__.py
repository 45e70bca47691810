"""``python -m pcapd.ctl``, and the beginning of the one file that bin/build-client makes."""

from __future__ import annotations

import sys

__all__ = ["start"]


def start() -> None:
    """Run what the command line asks for; ends by `SystemExit`."""
    arguments = sys.argv[1:]
    named = arguments[:1] and arguments[0].startswith("--cf-plugin=")
    if len(arguments) > 1 and (named or _is_port(arguments[0])):
        from pcapd.ctl.cfplugin.command import start as start_plugin

        start_plugin(arguments)
    from pcapd.ctl.main import main

    main()


def _is_port(word: str) -> bool:
    """The cf CLI starts its plugins with the port of its RPC server; no command of ours is a number."""
    return word.isascii() and word.isdigit() and len(word) <= 5 and 0 < int(word) < 65536


if __name__ == "__main__":
    start()
