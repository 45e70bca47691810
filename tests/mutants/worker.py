"""Run tests on a changed source, again and again, in a copy of the checkout.

``python -m tests.mutants.worker`` in the copy: one JSON object per line in, one
out.  What takes long to import is imported once; each run is a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

_NATIVES = sorted(Path("pcapd").glob("*/_native.c"))
_PYTEST = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0"]


class _FirstFailure:
    """Tells which test failed first, through a pipe.

    Args:
        pipe: Where to.
        tests: What was asked for; the first of them counts as failed when nothing can be imported.
    """

    def __init__(self, pipe: int, tests: list[str]) -> None:
        self._pipe = pipe
        self._tests = tests

    def _tell(self, name: str) -> None:
        os.write(self._pipe, f"{name}\n".encode())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._tell(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell(self._tests[0])


def main() -> None:
    """Serve until there is no more input."""
    _import_what_is_large()
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        if stream:
            os.dup2(nothing, stream)
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(_answer(**asked)) + "\n")
        answers.flush()


def _import_what_is_large() -> None:
    import hypothesis  # noqa: F401
    import jwt  # noqa: F401
    import OpenSSL.SSL  # noqa: F401
    import prometheus_client  # noqa: F401
    import pytest_twisted  # noqa: F401
    import rich.console  # noqa: F401
    import twisted.web.http_headers  # noqa: F401
    import yaml  # noqa: F401


def _answer(path: str, text: str, tests: list[str], seconds: float) -> dict[str, Any]:
    """Run tests on a changed file, which is put back afterwards.

    Returns:
        ``failed``: the first test that failed, or empty; ``late``: it took too long.
    """
    file = Path(path)
    original = file.read_text()
    try:
        _write(file, text)
        if file.suffix != ".py" and (problem := _build()):
            return {"failed": "", "late": False, "problem": problem}
        return _run(tests, seconds)
    finally:
        _write(file, original)


def _write(file: Path, text: str) -> None:
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()
    file.write_text(text)


def _build() -> str:
    """Compile every module: a header is part of several.  Returns the compiler's errors."""
    # What is not set is nothing usable by chance.
    flags = ["-shared", "-fPIC", "-O1", "-w", "-ftrivial-auto-var-init=pattern"]
    flags.append(f"-I{sysconfig.get_path('include')}")
    problems = ""
    for native in _NATIVES:
        built = native.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
        built.unlink(missing_ok=True)
        command = ["gcc", *flags, str(native), "-o", str(built)]
        problems += subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return problems


def _run(tests: list[str], seconds: float) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        os.close(read)
        status = 99
        with contextlib.suppress(BaseException):
            status = pytest.main([*_PYTEST, *tests], plugins=[_FirstFailure(write, tests)])
        os._exit(int(status))
    os.close(write)
    late = not _ends_within(child, seconds)
    if late:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    failed = _all_of(read).partition("\n")[0]
    if late or failed or status == pytest.ExitCode.OK:
        return {"failed": failed, "late": late, "problem": ""}
    if status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        return {"failed": "", "late": False, "problem": f"there is no test {' '.join(tests)}"}
    return {"failed": tests[0], "late": False, "problem": ""}  # it died, or the whole of pytest broke


def _ends_within(child: int, seconds: float) -> bool:
    ended = os.pidfd_open(child)
    try:
        return bool(select.select([ended], [], [], seconds)[0])
    finally:
        os.close(ended)


def _all_of(pipe: int) -> str:
    with os.fdopen(pipe, "rb", buffering=0) as stream:
        # Whatever a test left running has the other end, too.
        os.set_blocking(stream.fileno(), False)
        return (stream.read(65536) or b"").decode()


if __name__ == "__main__":
    main()
