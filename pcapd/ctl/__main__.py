"""``python -m pcapd.ctl``, and the beginning of the one file that bin/build-client makes."""

from __future__ import annotations

__all__ = ["start"]


def start() -> None:
    """Run what the command line asks for; ends by `SystemExit`."""
    from pcapd.ctl.main import main

    main()


if __name__ == "__main__":
    start()
