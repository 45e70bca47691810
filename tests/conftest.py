"""What every test gets: the strictness that pytest-twisted lacks, and an authority.

pytest-twisted lets a test pass that leaves a timer running, or whose Deferred
failed with nobody listening.  Here such a test fails.
"""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
from types import ModuleType
from typing import Any, Iterator

import hypothesis
import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from demo.certificates import Authority

# Machines are noisy: how long an example takes says nothing about it.
hypothesis.settings.register_profile(
    "pcapd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("pcapd")

# Some tests start our programs as other users, who must be able to read what a test lays out.
os.umask(0o022)

# A shell lets what it starts in the background ignore Ctrl-C, and so would all that we start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# So does nohup with the loss of a terminal.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Issue certificates for the whole session; a test that wants bad ones issues its own."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@implementer(ILogObserver)
class LoggedFailures:
    """Collects what is logged at critical: failures that nobody handled."""

    def __init__(self) -> None:
        self._events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        """Observe one event of the log."""
        if event.get("log_level") is LogLevel.critical:
            self._events.append(event)

    def flush(self, *kinds: type[BaseException]) -> list[Failure]:
        """Take out the failures that a test expected, and return them.

        Args:
            kinds: Exceptions to take; all when none is given.
        """
        # A Deferred reports its failure when it is collected.
        gc.collect()
        taken = [event for event in self._events if _failure_is(event, kinds or (BaseException,))]
        self._events = [event for event in self._events if event not in taken]
        return [event["log_failure"] for event in taken]

    def descriptions(self) -> list[str]:
        """Return one text per event that is left."""
        return [_describe(event) for event in self._events]


def _failure_is(event: LogEvent, kinds: tuple[type[BaseException], ...]) -> bool:
    failure = event.get("log_failure")
    return failure is not None and failure.check(*kinds) is not None


def _describe(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback() if failure is not None else str(event.get("log_format"))


@pytest.fixture
def logged_failures() -> Iterator[LoggedFailures]:
    """Observe the log; a test that provokes failures flushes them from here."""
    observer = LoggedFailures()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)


#: Their daemons take long to start: begun last, they would be what everybody waits for.
_FIRST = (
    "test_cloudfoundry_api.py",
    "test_extcap.py",
    "test_faults.py",
    "test_monit.py",
    "test_bosh_api.py",
    "test_pcapctl_cf.py",
    "test_pcapctl_bosh.py",
    "test_load.py",
    "test_fuzz.py",
    "test_client_file.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow files first, and leave the long tests out, unless a test file is named."""
    items.sort(key=lambda item: item.path.name not in _FIRST)
    for item in filter(_is_long, items):
        item.add_marker(pytest.mark.timeout(600))
    named = any(".py" in argument or "scenarios" in argument for argument in config.args)
    if named or config.option.markexpr or os.environ.get("PCAPD_TEST_ALL"):
        return
    long = [item for item in items if _is_long(item)]
    left_out = set(long)
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in left_out]


def _is_long(item: pytest.Item) -> bool:
    """Whether the marker ``long`` holds for this variant; ``but`` names parts of ids that stay."""
    variant = item.name.partition("[")[2]
    return any(
        not any(part in variant for part in mark.kwargs.get("but", ())) for mark in item.iter_markers("long")
    )


def pytest_collection_finish() -> None:
    """Take what is imported by now out of the garbage collector's way: `strict` collects after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Fail a test that changes the umask of this process: others start programs for other users."""
    yield
    if os.umask(0o022) != 0o022:
        pytest.fail("left another umask", pytrace=False)


@pytest.fixture(autouse=True)
def strict(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of Twisted code that leaves timers or unhandled failures behind.

    Other tests pay nothing: a full garbage collection takes longer than most of them.
    """
    if not _uses_twisted(request):
        yield
        return
    observer: LoggedFailures = request.getfixturevalue("logged_failures")
    before = _delayed_calls()
    yield
    gc.collect()
    problems = [f"left running: {call}" for call in _cancel_all(_delayed_calls() - before)]
    problems += [f"nobody handled: {text}" for text in observer.descriptions()]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _uses_twisted(request: pytest.FixtureRequest) -> bool:
    """Tell whether a test is a coroutine, or its module imports from Twisted or from what uses it."""
    function = getattr(request, "function", None)
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        return True
    return any(_is_of_twisted(value) for value in vars(request.module).values())


def _is_of_twisted(value: Any) -> bool:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and name.startswith(_TWISTED)


_TWISTED = (
    "twisted.",
    "pytest_twisted",
    "tests.kit.doubles",
    *(f"tests.kit.unit.{name}" for name in ("agent", "api", "authorities", "front", "net", "transport")),
    *(f"pcapd.{package}" for package in ("net", "agent", "api", "tap", "options", "main")),
)


def _delayed_calls() -> set[Any]:
    # Looked up, not imported: which reactor there is, if any, is pytest-twisted's choice.
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    return set() if reactor is None else set(reactor.getDelayedCalls())


def _cancel_all(calls: set[Any]) -> list[str]:
    descriptions = [str(call) for call in calls]
    for call in calls:
        call.cancel()
    return descriptions
