"""One target under atheris: ``python -m tests.fuzz.guided TARGET [libFuzzer's arguments]``."""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    # Branches count only in modules that are imported here.
    with atheris.instrument_imports(include=["pcapd"]):
        from tests.fuzz.targets import TARGETS
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
