"""What is found as a check, and what is there without it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.mutants.__main__ import ROOT, mutants
from tests.mutants.c_checks import c_checks_of
from tests.mutants.checks import checks_of


def found(source: str) -> dict[str, str]:
    """Names of checks, and the line of the source that each changes, without it."""
    text = textwrap.dedent(source)
    return {check.name: check.without(text).splitlines()[check.line - 1].strip() for check in checks_of(text)}


def test_each_part_of_a_refusal() -> None:
    """Of ``a or b`` each part is taken out by itself, wherever it stands below ``not`` and ``any``."""
    assert found(
        """
        def take(x):
            if x > 3 or not (x.here and 0 < x.size <= 5):
                raise ValueError(f"{x} > 3 or not")
        """
    ) == {
        "take [refuse] x > 3": "if False or not (x.here and 0 < x.size <= 5):",
        "take [refuse] x.here": "if x > 3 or not (True and 0 < x.size <= 5):",
        "take [refuse] 0 < x.size in 0 < x.size <= 5": "if x > 3 or not (x.here and (x.size <= 5)):",
        "take [refuse] x.size <= 5 in 0 < x.size <= 5": "if x > 3 or not (x.here and (0 < x.size)):",
    }


def test_what_a_condition_does_is_still_done() -> None:
    """A call within a condition is still made: only what it says does not count."""
    assert found(
        """
        def take(x):
            if not read(x):
                return None
            return x
        """
    ) == {"take [refuse] read(x)": "if not ((read(x)) or True):"}


@pytest.mark.parametrize(
    "refusal", ["raise ValueError", "return", "return None", "self.give_up(x)", "continue"]
)
def test_refusals(refusal: str) -> None:
    """Raising, returning nothing, giving up and going on with the next are refusals."""
    assert list(found(f"def f(self):\n  for x in y:\n    if x:\n      {refusal}\n    z()")) == [
        "f [refuse] x"
    ]


def test_what_is_not_refused() -> None:
    """An ``if`` before a refusal accepts; so does the last one in a loop."""
    assert found(
        """
        class Policy:
            def ask(self, who):
                if who.admin:
                    return 1
                raise Forbidden
            def keep(self, names):
                for name in names:
                    if name.good:
                        self.names.append(name)
        """
    ) == {
        "Policy.ask [accept] who.admin": "if True:",
        "Policy.keep [accept] name.good": "if True:",
    }


def test_answers() -> None:
    """Both outcomes of a yes-or-no function are taken out; repeated state is not a check."""
    assert found(
        """
        def may(x) -> bool:
            return x.user and x.target in x.targets
        def known(x) -> bool:
            return x in names
        def open(x) -> bool:
            return not x.closed
        """
    ) == {
        "may [answer] x.user": "return True and x.target in x.targets",
        "may [answer] x.target in x.targets": "return x.user and True",
        "known [answer] True for x in names": "return True",
        "known [answer] False for x in names": "return False",
    }


def test_filters_calls_and_bounds() -> None:
    """The condition of a comprehension, the call of a check, and what bounds something."""
    source = """
        def f(xs, limits):
            check_name(xs[0])
            ys = [x for x in xs if x.good]
            wait(min(xs[1], limits.most), PATIENCE)
            return ys[:MOST]
        """
    text = textwrap.dedent(source)
    checks = checks_of(text, frozenset({"PATIENCE", "MOST"}))
    assert {check.name: check.without(text).splitlines()[check.line - 1].strip() for check in checks} == {
        "f [call] check_name(xs[0])": "pass",
        "f [filter] x.good": "ys = [x for x in xs if True]",
        "f [bound] limits.most in min(xs[1], limits.most)": "wait((xs[1]), PATIENCE)",
        "f [bound] PATIENCE": "wait(min(xs[1], limits.most), (PATIENCE * 100))",
        "f [bound] [:MOST] of ys[:MOST]": "return ys[:None]",
    }


def test_names_are_told_apart() -> None:
    """Equal text twice in one function is numbered."""
    twice = "def f(x):\n  if x:\n    return\n  g()\n  if x:\n    return\n"
    assert list(found(twice)) == ["f [refuse] x", "f [refuse] x #2"]


def test_places_behind_what_is_not_ascii() -> None:
    """Columns are characters, although Python counts bytes."""
    assert found("def f(x):\n  if 'é' in x: raise E")["f [refuse] 'é' in x"] == "if False: raise E"


def test_c() -> None:
    """In C each part of a condition before a refusal is computed, and never true."""
    text = textwrap.dedent(
        """
        static bool
        read(const uint8_t *at, size_t left)
        {
            if (UNLIKELY(left < 16 || get(at) > 5)) {
                refuse_header(at);
                return false;
            }
            if (left)
                left--;
            return true;
        }
        """
    )
    assert {
        check.name: check.without(text).splitlines()[check.line - 1].strip() for check in c_checks_of(text)
    } == {
        "read [refuse] left < 16": "if (UNLIKELY(((left < 16) && 0) || get(at) > 5)) {",
        "read [refuse] get(at) > 5": "if (UNLIKELY(left < 16 || ((get(at) > 5) && 0))) {",
    }


@pytest.mark.long
def test_the_command_takes_checks_out() -> None:
    """Without a check of a small file, a test that uses it fails, and the command says so."""
    tests = ["tests/unit/config/test_config_units.py"]
    command = [
        sys.executable,
        "-m",
        "tests.mutants",
        "--jobs",
        "1",
        "pcapd/config/units.py",
        "--with",
        *tests,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    count = len(mutants([ROOT / "pcapd/config/units.py"]))
    assert (done.returncode, done.stdout) == (0, f"{count} checks: {count} held\n"), done.stderr
