"""The strict fixture of `tests/conftest.py` must be able to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a project of its own with our conftest, run in a process with a reactor of its own."""
    monkeypatch.setenv("PYTHONPATH", str(CONFTEST.parents[1]))
    pytester.makeconftest(CONFTEST.read_text())
    return pytester


def test_leftover_timer(run: pytest.Pytester) -> None:
    """A test that leaves a delayed call running fails, and the next one does not suffer for it."""
    run.makepyfile(
        """
        import pytest_twisted
        from twisted.internet import reactor

        def test_leaves():
            reactor.callLater(60, print)

        def test_next():
            assert not reactor.getDelayedCalls()
        """
    )
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left running: *DelayedCall*"])


def test_unheard_failure(run: pytest.Pytester) -> None:
    """A test whose Deferred fails with nobody listening fails, also when only the collector finds it."""
    run.makepyfile(
        """
        from twisted.internet import defer

        def test_forgets():
            deferred = defer.fail(ValueError("unheard"))
            deferred.myself = deferred
        """
    )
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ValueError: unheard*"])


def test_expected_failure(run: pytest.Pytester) -> None:
    """A test may take out the failures that it provoked."""
    run.makepyfile(
        """
        from twisted.logger import Logger

        def test_expects(logged_failures):
            try:
                1 / 0
            except ZeroDivisionError:
                Logger().failure("oops")
            assert len(logged_failures.flush(ZeroDivisionError)) == 1
        """
    )
    run.runpytest_subprocess().assert_outcomes(passed=1)


def test_others_are_left_alone(run: pytest.Pytester) -> None:
    """A test that has nothing to do with Twisted is not observed."""
    run.makepyfile(
        """
        def test_plain(request):
            assert "logged_failures" not in request.fixturenames
        """
    )
    run.runpytest_subprocess().assert_outcomes(passed=1)
