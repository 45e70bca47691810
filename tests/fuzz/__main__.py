"""Fuzz the decoders for as long as it is worth: see ``--help``."""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fuzz import NATIVE_BUILDS
from tests.fuzz.mutate import SIZE_MAX, mutations, seeds_of
from tests.fuzz.sanitizer import build, environment
from tests.fuzz.targets import CORPUS, NATIVE, TARGETS

_HELP = """\
Each target gets inputs that atheris (libFuzzer) makes of the saved ones in
tests/fuzz/corpus, guided by which code they reach.  An input that fails is
written to the directory --findings: repair what it shows, then add it to the
corpus, which every run of the tests replays.

examples:
  bin/fuzz                            all targets, a minute each
  bin/fuzz gob messages --seconds 3600
  bin/fuzz --sanitize                 what reaches C, under ASan and UBSan
  bin/fuzz gob --replay crash-1f0c    one input again, with its traceback
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status: 1 when something was found."""
    parser = argparse.ArgumentParser(
        prog="fuzz", epilog=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="per target (60)")
    parser.add_argument("--runs", type=int, help="inputs per target, instead of a time")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the random numbers; 0 takes another each time"
    )
    parser.add_argument(
        "--sanitize", action="store_true", help="under ASan and UBSan; mutations, not atheris"
    )
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="(fuzz-findings)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input")
    parser.add_argument("--mutate", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    if options.replay is not None:
        for name in options.targets:
            TARGETS[name](options.replay.read_bytes())
        return 0
    options.findings.mkdir(parents=True, exist_ok=True)
    if options.sanitize and NATIVE_BUILDS not in os.environ:
        return _sanitized(options)
    names = options.targets or list(NATIVE if options.sanitize else TARGETS)
    if options.mutate or options.sanitize:
        return max(_mutated(name, options) for name in names)
    return max(_guided(name, options) for name in names)


def _sanitized(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.fuzz", *(options.targets or NATIVE), "--sanitize"]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        command += ["--findings", str(options.findings)]
        if options.runs is not None:
            command += ["--runs", str(options.runs)]
        done = subprocess.run(command, env=environment(build(Path(directory))), check=False)
    return min(abs(done.returncode), 1)


def _mutated(name: str, options: argparse.Namespace) -> int:
    seeds = list(seeds_of(name).values())
    inputs: Iterator[bytes] = itertools.chain(seeds, mutations(seeds, options.seed or time.time_ns()))
    if options.runs is not None:
        inputs = itertools.islice(inputs, len(seeds) + options.runs)
    deadline = time.monotonic() + options.seconds
    # Written before it runs: a sanitizer ends the process.
    last = options.findings / f"{name}-last"
    count = 0
    for data in inputs:
        if options.runs is None and time.monotonic() > deadline:
            break
        last.write_bytes(data)
        try:
            TARGETS[name](data)
        except Exception:
            print(f"{name}: see {last}", file=sys.stderr)
            raise
        count += 1
    last.unlink(missing_ok=True)
    print(f"{name}: {count} inputs", flush=True)
    return 0


def _guided(name: str, options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as reached:
        command = [sys.executable, "-m", "tests.fuzz.guided", name, reached, str(CORPUS / name)]
        command += [f"-max_len={SIZE_MAX}", "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0"]
        command += [f"-artifact_prefix={options.findings}/{name}-", f"-seed={options.seed}"]
        if options.runs is None:
            command += [f"-max_total_time={max(1, round(options.seconds))}"]
        else:
            command += [f"-runs={options.runs}"]
        print(name, flush=True)
        return min(abs(subprocess.run(command, check=False).returncode), 1)


if __name__ == "__main__":
    raise SystemExit(main())
