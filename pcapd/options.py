"""The command-line options of ``twistd pcapd`` and ``pcapd``."""

from __future__ import annotations

from twisted.python import usage

import pcapd

__all__ = ["ForegroundOptions", "Options"]

ROLES = ("agent", "api")


class Options(usage.Options):
    """Options of both commands; a wrong one raises `usage.UsageError`."""

    synopsis = (
        "Usage: pcapd --role agent|api --config FILE\n"
        "       pcapd example-config agent|api\n"
        "       pcapd certificates DIR [--api NAME]... [--agent NAME]..."
    )
    longdesc = (
        "Capture network traffic remotely, from many machines at once. "
        "An agent captures on its machine; an api authorizes captures and joins the agents' streams. "
        "SIGTERM drains; SIGHUP reads renewed certificates, limits and policies."
    )
    optParameters = [  # noqa: RUF012  usage.Options defines it so
        ["role", "r", None, "The role: agent or api."],
        ["config", "c", None, "The configuration file (YAML); pcapd example-config prints one."],
    ]

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"pcapd {pcapd.__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Check that both options are given."""
        if self["role"] not in ROLES:
            raise usage.UsageError("--role must be agent or api")
        if not self["config"]:
            raise usage.UsageError("--config FILE is missing")


class ForegroundOptions(Options):
    """Options of ``pcapd`` alone."""

    optFlags = [  # noqa: RUF012
        ["check-config", None, "Check the configuration and exit."],
    ]
