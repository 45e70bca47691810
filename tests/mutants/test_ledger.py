"""The ledger knows every check, and names tests that there are."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys

from tests.mutants.__main__ import ROOT, mutants
from tests.mutants.ledger import LEDGER, Ledger


def test_every_check_has_a_row() -> None:
    """Who adds a check, or words it anew, says which test holds it: ``bin/mutants --find FILE``."""
    there = [mutant.name for mutant in mutants()]
    known = Ledger.read(LEDGER).rows
    assert [name for name in there if name not in known] == [], "see bin/mutants --help"
    assert [name for name in known if name not in there] == [], "these checks are gone"


def test_every_test_is_there() -> None:
    """No row names a test that was renamed or removed, and every reason is one."""
    ledger = Ledger.read(LEDGER)
    missing = {
        name: row for name, row in ledger.rows.items() if not ledger.reason(name) and not _is_test(row)
    }
    assert missing == {}
    assert [name for name in ledger.rows if ledger.reason(name) and len(ledger.reason(name)) < 20] == []


def _is_test(row: str) -> bool:
    file, _, name = row.partition("[")[0].partition("::")
    return name in _tests_of(file)


@functools.cache
def _tests_of(file: str) -> frozenset[str]:
    path = ROOT / file
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


def test_checks_are_taken_out() -> None:
    """The command takes the checks of a small file out, and each time the test of the ledger fails."""
    command = [sys.executable, "-m", "tests.mutants", "--jobs", "1", "pcapd/config/units.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    checks = mutants([ROOT / "pcapd/config/units.py"])
    assert (done.returncode, done.stdout) == (0, f"{len(checks)} checks: {len(checks)} held\n"), done.stderr
