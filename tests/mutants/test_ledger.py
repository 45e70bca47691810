"""The ledger knows every check, and names tests that there are."""

from __future__ import annotations

import subprocess
import sys

from tests.fuzz.test_fuzz import CHECKS
from tests.mutants.__main__ import ROOT, is_there, mutants
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
    named = {name: ledger.test(name) or ledger.sanitized(name) for name in ledger.rows}
    reasons = {name: ledger.reason(name) for name, test in named.items() if not test}
    assert {name: test for name, test in named.items() if test and not is_there(test)} == {}
    assert [name for name, reason in reasons.items() if len(reason) < 20] == []
    cases = [ledger.sanitized(name).removesuffix("]").partition("[")[2] for name in ledger.rows]
    assert set(filter(None, cases)) <= CHECKS.keys()


def test_checks_are_taken_out() -> None:
    """The command takes the checks of a small file out, and each time the test of the ledger fails."""
    command = [sys.executable, "-m", "tests.mutants", "--jobs", "1", "pcapd/config/units.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    checks = mutants([ROOT / "pcapd/config/units.py"])
    assert (done.returncode, done.stdout) == (0, f"{len(checks)} checks: {len(checks)} held\n"), done.stderr
