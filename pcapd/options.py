"""What ``twistd pcapd`` and ``pcapd`` are told on the command line."""

from __future__ import annotations

from twisted.python import usage

import pcapd

__all__ = ["ForegroundOptions", "Options"]

ROLES = ("agent", "api")


class Options(usage.Options):
    """Options of both commands; a wrong one is a `usage.UsageError`."""

    synopsis = (
        "Usage: pcapd --role agent|api --config FILE\n"
        "       pcapd example-config agent|api\n"
        "       pcapd certificates DIR [--api NAME]... [--agent NAME]..."
    )
    longdesc = (
        "Capture network traffic remotely, from many machines at once. "
        "An agent captures on its machine; an api decides who may, and joins the agents' streams. "
        "SIGTERM drains, SIGHUP reads renewed certificates."
    )
    optParameters = [  # noqa: RUF012  usage.Options defines it so
        ["role", "r", None, "What to be: agent or api."],
        ["config", "c", None, "The configuration file (YAML); pcapd example-config prints one."],
    ]

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"pcapd {pcapd.__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Check that both are there."""
        if self["role"] not in ROLES:
            raise usage.UsageError("--role must be agent or api")
        if not self["config"]:
            raise usage.UsageError("--config FILE is missing")


class ForegroundOptions(Options):
    """Of ``pcapd`` alone."""

    optFlags = [  # noqa: RUF012
        ["check-config", None, "Check the configuration and exit."],
    ]
