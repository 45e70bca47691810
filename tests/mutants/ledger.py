"""The ledger: for every check the test that fails without it, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

__all__ = ["LEDGER", "Ledger"]

LEDGER = Path(__file__).with_name("ledger.tsv")
#: Begins what stands in the place of a test.
_REASON = "none: "
#: Begins a test that takes the check out of the C code itself: what goes wrong then is
#: nothing that can be seen without sanitizers.
_SANITIZERS = "sanitizers: "


class Ledger:
    """Checks by their names; lines of ``NAME<TAB>TEST``, ``NAME<TAB>none: REASON``
    or ``NAME<TAB>sanitizers: TEST``."""

    def __init__(self, rows: Dict[str, str]) -> None:
        self.rows = rows

    @classmethod
    def read(cls, file: Path) -> Ledger:
        """Read the file, which may not be there yet."""
        lines = file.read_text().splitlines() if file.exists() else []
        return cls(dict(line.split("\t") for line in lines if not line.startswith("#")))

    def write(self, file: Path) -> None:
        """Write it, in the order of names."""
        head = "# Checks, and the test that fails without each: see tests/mutants/__init__.py\n"
        file.write_text(head + "".join(f"{name}\t{test}\n" for name, test in sorted(self.rows.items())))

    def test(self, name: str) -> str:
        """The test that holds a check; empty where none is named."""
        row = self.rows.get(name, "")
        return "" if row.startswith((_REASON, _SANITIZERS)) else row

    def sanitized(self, name: str) -> str:
        """The test that takes the check out itself, under sanitizers; empty where there is none."""
        row = self.rows.get(name, "")
        return row.removeprefix(_SANITIZERS) if row.startswith(_SANITIZERS) else ""

    def reason(self, name: str) -> str:
        """Why there is no test; empty where there is one, or nothing is known."""
        row = self.rows.get(name, "")
        return row.removeprefix(_REASON) if row.startswith(_REASON) else ""

    def put(self, name: str, test: str) -> None:
        """Name the test of a check."""
        self.rows[name] = test
