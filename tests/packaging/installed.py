"""A build of the sources, and an environment with its wheel alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import run

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "twisted/plugins/pcapd_plugin.py"

#: Seconds; a build or an installation waits for a package index.
PATIENCE = 600

#: What a build needs of a checkout.
SOURCES = ("bin", "bosh", "demo", "docs", "etc", "pcapd", "tests", "twisted")


@dataclass(frozen=True)
class Built:
    """What one build made, and the sources that it was made from."""

    sources: Path
    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Installed:
    """A virtual environment with our wheel and what it depends on."""

    bin: Path
    cwd: Path

    def run(self, command: str, *arguments: str, **options: Any) -> str:
        """Run one of its commands far away from the checkout; returns stdout and stderr."""
        done = run([str(self.bin / command), *arguments], cwd=self.cwd, env=clean_environment(), **options)
        return done.stdout + done.stderr


def clean_environment(**extra: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**inherited, **extra}
