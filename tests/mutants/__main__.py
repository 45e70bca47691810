"""Take each check out of the sources and see which test fails: see ``--help``."""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

from tests.mutants.c_checks import c_checks_of
from tests.mutants.checks import Check, checks_of

ROOT = Path(__file__).parents[2]

#: Checks that are not tried: NAME<TAB>REASON.
EXCEPTIONS = Path(__file__).with_name("exceptions.tsv")

#: What tests the compiled modules: nobody measures which lines of C a test runs.
_TESTS_OF_C = [
    *(f"tests/unit/{package}" for package in ("packet", "records", "savefile", "merge", "analysis")),
    "tests/fuzz",
]

_HELP = """\
Each check of the given files is taken out, one at a time, in copies of the checkout.
Then the unit tests that run its line must fail; a check that "survived" has no such test.

examples:
  bin/mutants pcapd/wire pcapd/api/resolvers/cc.py
  bin/mutants pcapd/api/resolvers/bosh.py --with tests/hosts/test_bosh_api.py
  bin/mutants                              all checks: hours
"""


@dataclass(frozen=True)
class Mutant:
    """One check of one file."""

    path: str
    text: str
    check: Check

    @property
    def name(self) -> str:
        """As `EXCEPTIONS` has it."""
        return f"{self.path}::{self.check.name}"


def limits() -> frozenset[str]:
    """Names of all constants in `pcapd.limits`."""
    tree = ast.parse((ROOT / "pcapd/limits.py").read_text())
    names = {
        node.target.id
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return frozenset(names - {"KIB", "MIB"})


def mutants(places: Sequence[Path] = (ROOT / "pcapd",)) -> list[Mutant]:
    """All checks below these files and directories."""
    known = limits()
    found = []
    for place in places:
        files = (
            sorted(file for suffix in ("py", "c", "h") for file in place.rglob(f"*.{suffix}"))
            if place.is_dir()
            else [place]
        )
        for file in files:
            text = file.read_text()
            checks = checks_of(text, known) if file.suffix == ".py" else c_checks_of(text)
            found += [Mutant(str(file.resolve().relative_to(ROOT)), text, check) for check in checks]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status: 1 when some check is not held by any test."""
    parser = argparse.ArgumentParser(
        prog="mutants", epilog=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="*", type=Path, metavar="PLACE", help="files or directories (pcapd)")
    parser.add_argument("--with", nargs="+", default=[], metavar="TEST", dest="tests", help="try these")
    parser.add_argument("--jobs", type=int, default=2, help="at once (2)")
    parser.add_argument("--seconds", type=float, default=120.0, help="for the tests of one check (120)")
    parser.add_argument("--map", type=Path, help="which tests run which lines: made, unless it is there")
    options = parser.parse_args(arguments)
    wanted = mutants([place.resolve() for place in options.places] or [ROOT / "pcapd"])
    excused = exceptions()
    tests_of = {} if options.tests else _line_map(options.map)
    results: Counter[str] = Counter()
    todo: Queue[Mutant] = Queue()
    for mutant in wanted:
        if mutant.name in excused:
            results["excused"] += 1
        else:
            todo.put(mutant)
    lock = threading.Lock()
    expected = todo.qsize() + sum(results.values())

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
            worker = Worker(Path(directory) / "checkout", options.seconds)
            while True:
                try:
                    mutant = todo.get_nowait()
                except Empty:
                    worker.close()
                    return
                try:
                    verdict, test = _judge(worker, mutant, tests_of, options.tests)
                except RuntimeError as error:
                    verdict, test = "broken", str(error)
                with lock:
                    results[verdict] += 1
                    if verdict != "held":
                        print(
                            f"{verdict}: {mutant.path}:{mutant.check.line} {mutant.check.name}  {test}",
                            flush=True,
                        )

    threads = [threading.Thread(target=work) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sum(results.values()) != expected:  # a worker has died, and its traceback is above
        results["not tried"] += expected - sum(results.values())
    print(f"{len(wanted)} checks: " + ", ".join(f"{count} {name}" for name, count in sorted(results.items())))
    return int(any(name not in ("held", "excused") for name in results))


def exceptions() -> frozenset[str]:
    """Names of the checks that are not tried."""
    lines = EXCEPTIONS.read_text().splitlines()
    return frozenset(line.partition("\t")[0] for line in lines if not line.startswith("#"))


def _judge(
    worker: Worker, mutant: Mutant, tests_of: dict[str, dict[int, list[str]]], tests: Sequence[str]
) -> tuple[str, str]:
    """Whether a test fails without the check, and which."""
    candidates = list(tests) or tests_of.get(mutant.path, {}).get(mutant.check.line, [])
    if not mutant.path.endswith(".py") and not tests:
        candidates = _TESTS_OF_C
    if not candidates:
        return "not run by any test", ""
    failed, late = worker.run(mutant, candidates)
    if late:
        return "late", candidates[0]
    return ("held", failed) if failed else ("survived", f"{len(candidates)} tests")


class Worker:
    """A copy of the checkout, and a process that runs tests in it.

    Args:
        directory: For the copy.
        seconds: For the tests of one mutant.
    """

    def __init__(self, directory: Path, seconds: float) -> None:
        self._seconds = seconds
        _copy(directory)
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "tests.mutants.worker"],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, mutant: Mutant, tests: Iterable[str]) -> tuple[str, bool]:
        """Which of the tests failed first, and whether they took too long."""
        assert self._process.stdin is not None and self._process.stdout is not None
        text = mutant.check.without(mutant.text)
        asked = {"path": mutant.path, "text": text, "tests": list(tests), "seconds": self._seconds}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["problem"]:
            raise RuntimeError(f"{mutant.name}: {answer['problem']}")
        return answer["failed"], answer["late"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _copy(directory: Path) -> None:
    """What git knows of the checkout, and the compiled modules."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    native = [str(file.relative_to(ROOT)) for file in ROOT.glob("pcapd/*/*.so")]
    for name in filter(None, [*listed, *native]):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "pcapd", "tests"], cwd=directory, check=False)


def _line_map(file: Path | None) -> dict[str, dict[int, list[str]]]:
    """Of each source, which unit tests run which line; the most particular first."""
    if file is None or not file.exists():
        with tempfile.TemporaryDirectory() as directory:
            made = _measure(Path(directory))
        if file is None:
            return made
        file.write_text(json.dumps(made))
    return {
        path: {int(line): tests for line, tests in lines.items()}
        for path, lines in json.loads(file.read_text()).items()
    }


def _measure(directory: Path) -> dict[str, dict[int, list[str]]]:
    import coverage

    data_file, config = directory / "data", directory / "coveragerc"
    config.write_text(f"[run]\ndata_file = {data_file}\nconcurrency = thread,greenlet\nsource = pcapd\n")
    print("measuring which tests run which lines", flush=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"),
            *(
                "--cov",
                "--cov-context=test",
                f"--cov-config={config}",
                "--cov-report=",
                "tests/unit",
                "tests/fuzz",
            ),
        ],
        cwd=ROOT,
        check=False,
    )
    data = coverage.CoverageData(str(data_file))
    data.read()
    found: dict[str, dict[int, list[str]]] = {}
    runs: Counter[str] = Counter()
    for name in data.measured_files():
        lines = data.contexts_by_lineno(name)
        for line, contexts in lines.items():
            tests = sorted({context.partition("|")[0] for context in contexts if context})
            runs.update(tests)
            found.setdefault(str(Path(name).relative_to(ROOT)), {})[line] = tests
    for lines_of in found.values():
        for tests in lines_of.values():
            tests.sort(key=lambda test: runs[test])
    return found


if __name__ == "__main__":
    sys.exit(main())
